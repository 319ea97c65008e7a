/**
 * What about an automatic label a person should look at.
 * @module
 */
import { plain } from './segments.js';

/**
 * Remarks by the organs that they name; those that name none are about the image, or the label as a whole.
 * @param {string[]} warnings of the server
 * @param {{id: number, name: string}[]} segments
 * @returns {{general: string[], organs: Map<number, string[]>}} by segment
 */
export function checksOf(warnings, segments) {
  /** @type {Map<number, string[]>} */
  const organs = new Map();
  const general = [];
  for (const warning of warnings) {
    const named = segments.filter(({ name }) => ` ${plain(warning).replace(/[^\p{L}\p{N} ]+/gu, ' ')} `.includes(` ${plain(name)} `));
    named.forEach(({ id }) => organs.set(id, [...(organs.get(id) || []), warning]));
    if (!named.length) {
      general.push(warning);
    }
  }
  return { general, organs };
}

/**
 * How sure the network was of an organ, as long as the organ is as the network found it.
 * @param {import('./types').Case} opened
 * @param {{id: number, name: string}} segment
 * @returns {number | null} 0 to 1, null if nothing is known
 */
export function confidenceOf({ origin, counts, found }, { id, name }) {
  const sure = origin?.tag === 'original' ? origin.confidence?.[name] : undefined;
  return sure === undefined || !counts[id] || counts[id] !== found[id] ? null : sure;
}
