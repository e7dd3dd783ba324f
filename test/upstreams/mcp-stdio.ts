/** The same tools over stdin and stdout, both eras. @module */
import { serveStdio } from '@modelcontextprotocol/server/stdio'
import { toolServer } from './mcp-server.ts'

serveStdio(() => toolServer({ cancelled: [], begun: [], added: [] }))
