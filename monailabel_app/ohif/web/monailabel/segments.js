/**
 * Names of OHIF's segmentations and segments, and ours.
 * @module
 */

const PREFIX = 'monailabel-';
const MOST = 255; // segments

/** @param {string} image series instance UID @returns {string} of the segmentation that holds its label */
export function idOf(image) {
  return PREFIX + image;
}

/** @param {string} segmentationId @returns {boolean} whether it is one of ours */
export function isOurs(segmentationId) {
  return segmentationId.startsWith(PREFIX);
}

/** @param {string} segmentationId @returns {string} series instance UID, if it is one of ours */
export function imageOf(segmentationId) {
  return isOurs(segmentationId) ? segmentationId.slice(PREFIX.length) : segmentationId;
}

/**
 * @param {import('./types').Segment[]} segments
 * @param {number} [chosen] the one that is painted, or else the first
 * @returns {Record<number, object>} as OHIF has them
 */
export function segmentsOf(segments, chosen) {
  const active = segments.find(({ id }) => id === chosen) || segments[0];
  const all = segments.map(({ id, name }) => [
    id,
    { segmentIndex: id, label: name, active: id === active.id, locked: false, cachedStats: {} },
  ]);
  return Object.fromEntries(all);
}

/** @param {any} segmentation of OHIF @returns {{id: number, name: string, active: boolean}[]} its segments */
export function listed(segmentation) {
  const segments = Object.values(segmentation?.segments || {}).filter(Boolean);
  return segments.map(({ segmentIndex, label, active }) => ({ id: segmentIndex, name: label, active }));
}

/** @param {import('./types').Segment[]} some @param {import('./types').Segment[]} others */
export function sameSegments(some, others) {
  const [one, other] = [some, others].map((segments) => segments.map(({ id, name }) => `${id} ${name}`).sort());
  return JSON.stringify(one) === JSON.stringify(other);
}

/**
 * The segments of a label, and labels of some slices that another model, or an earlier one, calls differently: organs
 * are the same by their names. Organs that the slices do not hold are not added.
 * @param {import('./types').Segment[]} known segments of the label
 * @param {import('./types').Label} label of some slices
 * @returns {import('./types').Label} the same slices, in terms of all segments
 * @throws {RangeError} if a label would have more than 255 segments
 */
export function joined(known, label) {
  const segments = [...known];
  const taken = new Set(known.map(({ id }) => id));
  const ids = new Map([[0, 0]]);
  const held = new Set(label.slices.flatMap(({ runs }) => runs.filter((_, i) => i % 2)));
  for (const segment of label.segments.filter(({ id }) => held.has(id))) {
    const same = known.find(({ name }) => plain(name) === plain(segment.name));
    const id = same ? same.id : taken.has(segment.id) ? Math.max(...taken) + 1 : segment.id;
    if (id > MOST) {
      throw new RangeError(`${segment.name}: a label has at most ${MOST} organs`);
    }
    if (!same) {
      segments.push({ ...segment, id });
      taken.add(id);
    }
    ids.set(segment.id, id);
  }
  const slices = label.slices.map((slice) => ({ ...slice, runs: slice.runs.map((n, i) => (i % 2 ? ids.get(n) : n)) }));
  return { ...label, segments, slices };
}

/** @param {string} name @returns {string} as it is compared */
export function plain(name) {
  return name.trim().toLowerCase().replace(/[\s_-]+/g, ' ');
}
