/**
 * A badly behaved stdio server, for the faults a child can have. The first argument says which:
 * `exit-on-probe` ends on any request before initialize, `silent-on-probe` ignores it, `flood` writes an endless line,
 * `noise` greets on stdout, `asks` sends requests of its own during a call, `crash` ends during a call,
 * `stubborn` ignores the end of stdin and SIGTERM and has started a process of its own.
 * @module
 */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

const mode = process.argv[2] ?? ''
const asked = new Map<number, unknown>()
let call: unknown = null

const say = (body: object) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...body })}\n`)
const text = (value: unknown) => ({
  content: [{ type: 'text', text: typeof value === 'string' ? value : JSON.stringify(value) }],
})

if (mode === 'noise') process.stdout.write('Welcome to the server!\n{"not": "mcp"}\n\n')
if (mode === 'stubborn') {
  process.on('SIGTERM', () => {})
  spawn(process.execPath, ['-e', 'process.on("SIGTERM",()=>{}); setInterval(()=>{}, 1000)'], { stdio: 'ignore' })
  setInterval(() => {}, 1000)
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const message = JSON.parse(line)
  if (message.method === 'initialize') {
    const { protocolVersion } = message.params
    say({
      id: message.id,
      result: { protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'rogue', version: '0' } },
    })
  } else if (message.method === 'server/discover') {
    if (mode === 'exit-on-probe') process.exit(3)
    if (mode !== 'silent-on-probe') say({ id: message.id, error: { code: -32601, message: 'Method not found' } })
  } else if (message.method === 'tools/list') {
    say({
      id: message.id,
      result: {
        tools: [
          { name: 'go', inputSchema: { type: 'object' } },
          { name: 'env', inputSchema: { type: 'object' } },
        ],
      },
    })
  } else if (message.method === 'tools/call') {
    if (message.params.name === 'env')
      say({ id: message.id, result: text({ env: process.env, argv: process.argv.slice(2), pid: process.pid }) })
    else if (mode === 'flood') setInterval(() => process.stdout.write('x'.repeat(1_000_000)), 1)
    else if (mode === 'crash') process.exit(1)
    else if (mode === 'asks') {
      call = message.id
      say({ id: 900, method: 'ping', params: {} })
      say({ id: 901, method: 'sampling/createMessage', params: {} })
    } else say({ id: message.id, result: text('gone') })
  } else if (message.method === undefined) {
    asked.set(message.id, message.error?.code ?? 'ok')
    if (asked.size === 2) say({ id: call, result: text(Object.fromEntries(asked)) })
  }
})
