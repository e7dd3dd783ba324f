/** How much text events carry, without parsing them: what a stream has cost so far when nobody says it. @module */

/** Where the count goes. */
export interface TextCount {
  events: number
  text: number
  pieces: number
}

/** The usual one first; the others are looked for in events without it. */
const usual = '"content"'
const others = ['"arguments"', '"text"', '"reasoning_content"', '"reasoning"', '"refusal"']

/**
 * Counts events and the text in them.
 *
 * @param text whole events, one character a byte
 * @param events how many data events these are
 */
export function tally(text: string, events: number, count: TextCount): void {
  count.events += events
  if (addTexts(text, usual, count) >= events) return
  for (const key of others) addTexts(text, key, count)
}

/** @returns how often the key has text. A quote inside a JSON string is escaped, so a key in quotes cannot be text. */
function addTexts(text: string, key: string, count: TextCount): number {
  let found = 0
  for (let at = text.indexOf(key); at !== -1; at = text.indexOf(key, at)) {
    at += key.length
    while (text.charCodeAt(at) === 0x20 || text.charCodeAt(at) === 0x3a) at++
    if (text.charCodeAt(at) !== 0x22) continue
    found++
    const start = ++at
    let written = 0
    for (let byte = text.charCodeAt(at); byte !== 0x22 && at < text.length; byte = text.charCodeAt(at)) {
      if (byte !== 0x5c) {
        at++
        continue
      }
      // A backslash and a letter write one byte; `\u` and four digits a character of three at most.
      const longer = text.charCodeAt(at + 1) === 0x75
      written += longer ? 3 : 1
      at += longer ? 6 : 2
    }
    if (at === start) continue
    count.pieces++
    count.text += at - start - written
  }
  return found
}
