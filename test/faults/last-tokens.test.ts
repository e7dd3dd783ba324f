/** The last of a budget goes to exactly as many calls as it suffices for, however many processes are asked. @module */
import { testLastTokens } from './last-tokens.ts'

testLastTokens(300, { one: ['at once', 'late'], several: ['at once'] })
