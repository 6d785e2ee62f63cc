/**
 * Returns the fields of a reply. The entries of a long one are parsed while they are iterated.
 *
 * @param {string[]} pieces The text, as it has arrived.
 * @returns {any}
 * @throws {SyntaxError} Also while iterating.
 */
export function parseReply(pieces: string[]): any;
