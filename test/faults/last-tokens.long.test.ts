/** The last of a budget, for a thousand callers, several times. @module */
import { testLastTokens } from './last-tokens.ts'

const paces = ['at once', 'late', 'at once', 'late', 'at once'] as const

testLastTokens(1000, { one: paces, several: paces })
