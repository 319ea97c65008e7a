/**
 * Undo and redo of what OHIF does not record by itself.
 * @module
 */
import { same } from './survey.js';

/**
 * A label map at one time.
 * @typedef {object} Moment
 * @property {Map<string, Uint8Array>} pixels by slice
 * @property {import('./types').Segment[]} segments
 */

/** @param {Moment} moment @param {number} id @returns {Moment} the same without a segment and its voxels */
export function withoutSegment({ segments, pixels }, id) {
  const cleared = [...pixels].map(([key, values]) => {
    return /** @type {const} */ ([key, values.map((label) => (label === id ? 0 : label))]);
  });
  return { segments: segments.filter((segment) => segment.id !== id), pixels: new Map(cleared) };
}

/** Puts our own steps among those of OHIF's tools. */
export class History {
  /** @param {{cornerstone: any, cornerstoneTools: any}} globals as OHIF's page exposes them */
  constructor(globals) {
    this.globals = globals;
  }

  /**
   * Record a step that was done.
   * @param {Moment} before
   * @param {Moment} after
   * @param {(moment: Moment) => void} restore
   */
  record(before, after, restore) {
    const changed = [...after.pixels.keys()].filter((key) => !same(before.pixels.get(key), after.pixels.get(key)));
    const [was, is] = [before, after].map(({ pixels, segments }) => ({
      segments,
      pixels: new Map(changed.map((key) => [key, pixels.get(key)])),
    }));
    const { HistoryMemo, uuidv4 } = this.globals.cornerstone.utilities;
    HistoryMemo.DefaultHistoryMemo.push({
      id: uuidv4(),
      operationType: 'labelmap',
      /** @param {boolean} undo */
      restoreMemo: (undo) => restore(undo ? was : is),
    });
  }

  /**
   * Interpolate between slices, and record it once the worker has ended.
   * @param {() => void} interpolate starts the worker
   * @param {() => Moment} look at the label map
   * @param {(moment: Moment) => void} restore
   */
  interpolate(interpolate, look, restore) {
    const { cornerstone, cornerstoneTools } = this.globals;
    const event = cornerstone.Enums.Events.WEB_WORKER_PROGRESS;
    const before = look();
    /** @param {{detail: {type: string, progress: number}}} progress */
    const ended = ({ detail: { type, progress } }) => {
      if (type === cornerstoneTools.Enums.WorkerTypes.INTERPOLATE_LABELMAP && progress === 100) {
        cornerstone.eventTarget.removeEventListener(event, ended);
        this.record(before, look(), restore);
      }
    };
    cornerstone.eventTarget.addEventListener(event, ended);
    interpolate();
  }
}
