/**
 * Dispatch marks in a table, on a connection of their own: an attempt that is about to leave does not wait for the
 * ledger. What is marked in the same turn, or while a commit is under way, is one commit.
 * @module
 */
import type { Marks } from './database.ts'
import type { Lane } from './postgres-connection.ts'
import type { Mark } from './store.ts'

/** So many marks of booked lines may lie around before they are deleted without waiting for the next mark. */
const mostForgotten = 1000

const write = {
  name: 'gatehouse_marks',
  text: `
    with gone as (delete from marks where id = any ($1::text[]))
    insert into marks (id, writer, mark)
    select id, writer, mark from unnest($2::text[], $3::text[], $4::text[]) as m (id, writer, mark) order by id collate "C"
    on conflict (id) do update set writer = excluded.writer, mark = excluded.mark`,
}

export function postgresMarks(lane: Lane): Marks & { close(): Promise<void> } {
  let waiting = new Map<string, { readonly writer: string; readonly text: string }>()
  let kept = Promise.withResolvers<void>()
  let forgotten = new Set<string>()
  let busy = false

  // setImmediate, not at once: attempts that leave in the same turn of the event loop share the commit.
  function schedule(): void {
    if (busy) return
    busy = true
    setImmediate(next)
  }

  async function next(): Promise<void> {
    while (waiting.size > 0 || forgotten.size > mostForgotten) await flush().catch(() => undefined)
    busy = false
  }

  /** Rejects, like those who wait, when nothing was written. */
  async function flush(): Promise<void> {
    const [marks, done, gone] = [waiting, kept, forgotten]
    waiting = new Map()
    kept = Promise.withResolvers()
    forgotten = new Set()
    const all = [...marks.values()]
    const values = [[...gone], [...marks.keys()], all.map(({ writer }) => writer), all.map(({ text }) => text)]
    try {
      await lane.run((client) => client.query({ ...write, values }))
      done.resolve()
    } catch (error) {
      // They are booked, so they do no harm where they are; the next commit takes them along, unless there are too many.
      if (gone.size <= mostForgotten) for (const id of gone) forgotten.add(id)
      done.promise.catch(() => undefined)
      done.reject(error)
      throw error
    }
  }

  return {
    add(writer, marks) {
      if (marks.length === 0) return
      for (const mark of marks) {
        forgotten.delete(mark.line.id)
        waiting.set(mark.line.id, { writer, text: JSON.stringify(mark) })
      }
      schedule()
      return kept.promise
    },
    forget(_, ids) {
      for (const id of ids) {
        waiting.delete(id)
        forgotten.add(id)
      }
      if (forgotten.size > mostForgotten) schedule()
    },
    async of(writer) {
      const text = 'select mark from marks where writer = $1 order by id'
      const { rows } = await lane.run((client) => client.query<{ mark: string }>(text, [writer]))
      return rows.map(({ mark }) => JSON.parse(mark) as Mark)
    },
    async drop(writer) {
      await lane.run((client) => client.query('delete from marks where writer = $1', [writer]))
    },
    async close() {
      if (waiting.size > 0 || forgotten.size > 0) await flush().catch(() => undefined)
    },
  }
}
