/**
 * Names of OHIF's segmentations and segments, and ours.
 * @module
 */

const PREFIX = 'monailabel-';

/** @param {string} image series instance UID @returns {string} of the segmentation that holds its label */
export function idOf(image) {
  return PREFIX + image;
}

/** @param {string} segmentationId @returns {string} series instance UID, if it is one of ours */
export function imageOf(segmentationId) {
  return segmentationId.startsWith(PREFIX) ? segmentationId.slice(PREFIX.length) : segmentationId;
}

/** @param {import('./types').Segment[]} segments @returns {Record<number, object>} as OHIF has them */
export function segmentsOf(segments) {
  const all = segments.map(({ id, name }, i) => [
    id,
    { segmentIndex: id, label: name, active: i === 0, locked: false, cachedStats: {} },
  ]);
  return Object.fromEntries(all);
}

/** @param {import('./types').Segment[]} some @param {import('./types').Segment[]} others */
export function sameSegments(some, others) {
  const [one, other] = [some, others].map((segments) => segments.map(({ id, name }) => `${id} ${name}`).sort());
  return JSON.stringify(one) === JSON.stringify(other);
}
