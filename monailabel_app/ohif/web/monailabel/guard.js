/**
 * Who may change the list of organs of a label of ours: a person, and we. OHIF's statistics may not: they are worked out
 * beside the page, and put back the whole list as it was when they began, with the names of an earlier label.
 * @module
 */
import { imageOf, isOurs } from './segments.js';

/** @typedef {(...what: any[]) => any} Method of OHIF's service, by which the label is named first */

/** Stands before the methods of OHIF's service that change a list of segments. */
export class Guard {
  /**
   * @param {any} service OHIF's segmentation service
   * @param {object} list what is to be done to a label of ours
   * @param {(image: string, change: () => void) => void} list.take make a change of the person's, and keep what came of it
   * @param {(image: string, id: number) => void} list.remove a segment with its voxels
   */
  constructor(service, { take, remove }) {
    this.service = service;
    /** @type {Record<string, (method: Method) => Method>} */
    this.instead = {
      addSegment: (method) => (id, config) => take(imageOf(id), () => method(id, config)),
      setSegmentLabel: (method) => (id, segment, label) => take(imageOf(id), () => method(id, segment, label)),
      removeSegment: () => (id, segment) => remove(imageOf(id), segment),
      addOrUpdateSegmentation: (method) => (id, data) => method(this.current(id, data)),
    };
    /** @type {Map<string, Method>} */
    this.theirs = new Map();
  }

  /** Let no list of segments be put back from now on. */
  begin() {
    for (const [name, make] of Object.entries(this.instead)) {
      const method = this.service[name];
      const direct = method.bind(this.service);
      const guarded = make(direct);
      this.theirs.set(name, method);
      this.service[name] = /** @type {Method} */ ((...what) => {
        const id = what[0]?.segmentationId ?? what[0]; // one of them is given all in one object
        const ours = typeof id === 'string' && isOurs(id);
        return ours ? guarded(id, ...(what[0] === id ? what.slice(1) : what)) : direct(...what);
      });
    }
  }

  /** Leave OHIF to itself. */
  end() {
    this.theirs.forEach((method, name) => Object.assign(this.service, { [name]: method }));
    this.theirs.clear();
  }

  /**
   * @param {string} id of a segmentation
   * @param {any} data that OHIF puts in its place
   * @returns {any} the same, with the segments that there are now
   */
  current(id, data) {
    const now = this.service.getSegmentation(id)?.segments;
    return now && data.segments ? { ...data, segments: withStatistics(now, data.segments) } : data;
  }
}

/**
 * Of a list that comes late only the statistics are taken, and those of organs that are still what they were.
 * @param {Record<number, any>} now segments of OHIF
 * @param {Record<number, any>} late
 * @returns {Record<number, any>}
 */
export function withStatistics(now, late) {
  const all = Object.entries(now).map(([id, segment]) => {
    const same = segment && late[id]?.label === segment.label;
    return [id, same ? { ...segment, cachedStats: late[id].cachedStats } : segment];
  });
  return Object.fromEntries(all);
}
