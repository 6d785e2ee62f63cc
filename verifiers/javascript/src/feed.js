/** The reply of the feed, parsed in pieces: a million entries at once would stop the event loop. */

/** Length of a reply that is parsed at once, in characters. It takes less than a millisecond. */
const SHORT = 32 * 1024
/** Beginning and end of the list of entries, which is the last field, and the border of two entries. */
const BEGIN = '"revoked":['
const END = ']}'
const BORDER = '],['

/**
 * Returns the fields of a reply. The entries of a long one are parsed while they are iterated.
 *
 * @param {string[]} pieces The text, as it has arrived.
 * @returns {any}
 * @throws {SyntaxError} Also while iterating.
 */
export function parseReply(pieces) {
  let text = ''
  let count = 0
  while (count < pieces.length && text.length < SHORT) text += pieces[count++]
  const begin = text.indexOf(BEGIN) + BEGIN.length
  const isUsual = begin >= BEGIN.length && pieces.slice(-2).join('').endsWith(END)
  if (count === pieces.length || !isUsual) return JSON.parse(pieces.join(''))
  const fields = JSON.parse(text.slice(0, begin) + END)
  return { ...fields, revoked: entries(text.slice(begin), pieces.slice(count)) }
}

/**
 * @param {string} text
 * @param {string[]} pieces Those that follow the text.
 * @returns {Generator<unknown>}
 */
function* entries(text, pieces) {
  for (const piece of pieces) {
    const border = text.lastIndexOf(BORDER)
    if (border >= 0) {
      yield* JSON.parse(`[${text.slice(0, border + 1)}]`)
      text = text.slice(border + 2)
    }
    text += piece
  }
  yield* JSON.parse(`[${text.slice(0, -END.length)}]`)
}
