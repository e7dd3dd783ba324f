/** How a credential travels to an upstream: one line per scheme, names taken from the table. @module */
import { z } from 'zod'

/** A secret by reference: `env:NAME` or `file:PATH`. Never the secret itself. */
export const secretRef = z
  .string()
  .regex(/^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$/, 'must be env:NAME or file:PATH; secrets never stand in the file')

export const schemes = {
  bearer: (secret: string) => ['authorization', `Bearer ${secret}`] as const,
  header: (secret: string, name: string) => [name, secret] as const,
} satisfies Record<string, (secret: string, name: string) => readonly [string, string]>

export type SchemeName = keyof typeof schemes

/** zod slice: the credential of a provider row. */
export const credentialSchema = z.discriminatedUnion('scheme', [
  z.strictObject({ name: z.string().optional(), scheme: z.literal('bearer'), secret: secretRef }),
  z.strictObject({
    name: z.string().optional(),
    scheme: z.literal('header'),
    header: z.string().regex(/^[A-Za-z0-9-]+$/),
    secret: secretRef,
  }),
])
export type CredentialRow = z.infer<typeof credentialSchema>

/** zod slice: `auth` of a tool server. */
export const serverAuthSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('none') }),
  z.strictObject({ kind: z.literal('bearer'), secret: secretRef }),
  z.strictObject({ kind: z.literal('header'), name: z.string().regex(/^[A-Za-z0-9-]+$/), secret: secretRef }),
])
export type ServerAuth = z.infer<typeof serverAuthSchema>

/**
 * The header a credential becomes.
 *
 * @param read resolves a secret reference; passed in because only main reads the environment
 * @returns name (lower case) and value, or null where there is none to send
 * @throws {Error} naming the reference when the secret is not there
 */
export function authHeader(
  auth: CredentialRow | ServerAuth | null,
  read: (ref: string) => string,
): readonly [string, string] | null {
  if (auth === null) return null
  if ('scheme' in auth) {
    return auth.scheme === 'bearer'
      ? schemes.bearer(read(auth.secret))
      : schemes.header(read(auth.secret), auth.header.toLowerCase())
  }
  switch (auth.kind) {
    case 'none':
      return null
    case 'bearer':
      return schemes.bearer(read(auth.secret))
    case 'header':
      return schemes.header(read(auth.secret), auth.name.toLowerCase())
  }
}
