/** zod slice of `registry/servers/*.yaml`: one tool server, by kind. @module */
import { z } from 'zod'
import { type McpRow, mcpRowSchema } from '../targets/mcp-row.ts'
import { type OpenapiRow, openapiRowSchema } from '../targets/openapi-row.ts'

export const serverSchema = z.discriminatedUnion('kind', [mcpRowSchema, openapiRowSchema])

/** A tool server's row; its id is the key it is kept under. */
export type ServerConfig = McpRow | OpenapiRow

/** Kinds the format reserves; a row of such a kind is told apart from a typo. */
export const laterKinds = ['rest', 'graphql', 'lambda'] as const

/** A server id is the prefix of its tools' names, so `__` must never occur in it. */
export const serverId = /^[a-z]([a-z0-9]|-(?=[a-z0-9]))*$/
