/** `gatehouse registry`: tool servers and their tools, from a terminal. @module */
import type { Command } from 'commander'
import { z } from 'zod'
import { type Reach, reaching, withGateway } from './admin-api.ts'
import { Failed, fields, table } from './report.ts'

const serverShape = z.looseObject({
  id: z.string(),
  kind: z.string(),
  status: z.string(),
  era: z.string().nullable(),
  last_failure: z.string().nullable(),
  tools: z.array(z.string()),
})

export const definitionShape = z.looseObject({
  name: z.string(),
  description: z.string().optional(),
  inputSchema: z.looseObject({ properties: z.record(z.string(), z.unknown()).optional() }).optional(),
})

export const inspectShape = serverShape.extend({ definitions: z.array(definitionShape) })

export function addRegistry(program: Command): void {
  const group = program.command('registry').description('tool servers and their tools')

  reaching(group.command('list').description('list tool servers with their status')).action((options: Reach) =>
    withGateway(options, async (api) => {
      const answer = await api.ask('GET', '/servers', z.object({ data: z.array(serverShape) }))
      if (answer instanceof Failed) return answer
      const rows = answer.data.map((row) => [
        row.id,
        row.kind,
        row.status,
        row.era ?? '',
        String(row.tools.length),
        row.last_failure ?? '',
      ])
      const heads = ['ID', 'KIND', 'STATUS', 'ERA', 'TOOLS', 'LAST FAILURE']
      return { json: answer.data, text: table(heads, rows, 'no tool servers in registry/servers/') }
    }),
  )

  reaching(group.command('inspect <id>').description('show one tool server with its tools')).action(
    (id: string, options: Reach) =>
      withGateway(options, async (api) => {
        const server = await api.ask('GET', `/servers/${encodeURIComponent(id)}`, inspectShape)
        if (server instanceof Failed) return server
        const about = fields([
          ['id', server.id],
          ['kind', server.kind],
          ['status', server.status],
          ['era', server.era],
          ['last failure', server.last_failure],
        ])
        const tools = server.definitions.map(({ name, inputSchema, description }) => [
          `${server.id}__${name}`,
          Object.keys(inputSchema?.properties ?? {}).join(' '),
          (description ?? '').split('\n')[0]?.slice(0, 100) ?? '',
        ])
        return { json: server, text: `${about}\n\n${table(['TOOL', 'ARGUMENTS', 'DESCRIPTION'], tools, 'no tools')}` }
      }),
  )
}
