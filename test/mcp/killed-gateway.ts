/** Runs one child as a gateway would, prints the child's pid and waits to be killed. @module */
import { callTool, openRig, textOf } from './rig.ts'

const target = openRig().child(JSON.parse(process.argv[2] as string))
const { pid } = JSON.parse(textOf(await callTool(target, 'env')))
process.stdout.write(String(pid))
setInterval(() => {}, 1000)
