/**
 * One series and its label, and what is told about it.
 * @module
 */
import { decodeSlices, keyOf, sliceRange } from './runs.js';
import { ServerError } from './server.js';
import { Survey } from './survey.js';

/** @param {string} image @returns {import('./types').Case} */
export function newCase(image) {
  const empty = { origin: null, base: null, label: null, stored: null, draft: null, message: null, reviewed: null };
  const idle = { busy: '', since: 0, stop: null };
  return { image, visit: uniqueName(), ...empty, ...idle, counts: [], found: [], dirty: false, hash: null, survey: new Survey() };
}

/** @returns {string} that nobody else uses */
export function uniqueName() {
  return Date.now().toString(36) + Math.random().toString(36).slice(2);
}

/** @param {import('./types').Label} label @returns {import('./types').LabelOrigin} */
export function originOf({ tag, by, time, model, model_version, pacs, digest, warnings, confidence }) {
  return { tag, by, time, model, model_version, pacs, digest, warnings, confidence };
}

/**
 * A label of some slices as one of all, the others empty.
 * @param {import('./types').Label} label
 * @param {import('./types').SliceName[]} slices
 * @returns {import('./types').Label}
 */
export function filled(label, slices) {
  const there = new Map(label.slices.map((slice) => [slice.uid + slice.frame, slice]));
  const empty = [label.rows * label.columns, 0];
  return { ...label, slices: slices.map((name) => there.get(name.uid + name.frame) || { ...name, runs: empty }) };
}

/**
 * An empty label to draw in, of one organ, since OHIF makes one without a name where there is none.
 * @param {string} image
 * @param {import('./types').LabelViewer} viewer
 * @param {import('./types').Segment} organ
 * @returns {import('./types').Label}
 */
export function emptyLabel(image, viewer, organ) {
  const nobody = { tag: /** @type {const} */ ('original'), by: null, time: null, model: null, model_version: null };
  return filled({ image, ...viewer.grid(image), ...nobody, segments: [organ], slices: [] }, viewer.slices(image));
}

/**
 * What is shown, to be kept in a file or in the browser.
 * @param {import('./types').Case} opened
 * @param {number} saved milliseconds since 1970
 * @returns {import('./types').Draft}
 */
export function draftOf({ visit, origin, base, label }, saved) {
  return { visit, saved, origin, base, label };
}

/** What became of a stored label. @param {import('./types').LabelOrigin} origin @returns {import('./types').Message} */
export function storedMessage({ pacs }) {
  if (pacs === 'stored') {
    return { kind: 'done', text: 'Stored, and in the PACS as DICOM SEG.' };
  }
  if (pacs === 'waits') {
    return { kind: 'warn', text: 'Stored on the server. The PACS has not taken it yet; the server sends it again until it does.' };
  }
  return { kind: 'warn', text: `Stored on the server. The PACS cannot have it: ${pacs}` };
}

/**
 * Ask whether the PACS has taken a label that waited for it.
 * @param {import('./types').Case | null} opened
 * @param {import('./types').LabelServer} server
 * @param {import('./types').StoredResults} results
 * @returns {Promise<boolean>} whether it still waits
 */
export async function stillWaits(opened, server, results) {
  const origin = opened?.origin;
  if (origin?.pacs !== 'waits') {
    return false;
  }
  const { label } = await server.image(opened.image);
  if (label?.digest === origin.digest && label.pacs !== 'waits') {
    origin.pacs = label.pacs;
    opened.message = storedMessage(origin);
    results.renew(opened.image);
  }
  return origin.pacs === 'waits';
}

/** @param {string} busy @param {Error} error @returns {import('./types').Message} */
export function failure(busy, error) {
  const status = error instanceof ServerError ? error.status : -1;
  const storing = busy === 'Storing…';
  const actions = { 401: ['login'], 409: ['replace', 'load'] }[status] || (storing ? ['again'] : []);
  const why = /[.!?]$/.test(error.message) ? error.message : `${error.message}.`;
  const text = storing ? `Not stored: ${why} Your changes are still here.` : why;
  return { kind: 'error', text, actions: storing ? [...actions, ...(status === 401 ? ['again'] : []), 'save'] : actions };
}

/**
 * Read what is shown: labels, volumes, and whether it is stored.
 * @param {import('./types').Case} opened
 * @param {import('./types').LabelViewer} viewer
 * @returns {import('./types').Label | null} what was shown last, if nothing is shown now
 */
export function lookAt(opened, viewer) {
  const slices = viewer.read(opened.image);
  if (!slices) {
    return opened.label;
  }
  const segments = viewer.segments(opened.image);
  const found = opened.survey.take(slices);
  const { slices: labels, counts } = found;
  opened.counts = counts;
  opened.hash = digestOf(found, segments);
  opened.dirty = opened.hash !== opened.stored;
  opened.label = { ...opened.label, segments, slices: labels };
  return opened.label;
}

/** @param {{counts: number[], hash: number}} found by a survey @param {import('./types').Segment[]} segments */
function digestOf({ counts, hash }, segments) {
  return `${hash} ${segments.map(({ id, name }) => (counts[id] ? `${id} ${name}` : '')).join()}`;
}

/**
 * What `hash` of a case is where a label is shown as it came; a person may have drawn on it already.
 * @param {import('./types').Case} opened
 * @param {import('./types').Label} label
 * @param {import('./types').LabelViewer} viewer
 * @returns {string | null} null if nothing is shown
 */
export function hashAsGiven(opened, label, viewer) {
  const given = decodeSlices(label);
  const slices = viewer.read(opened.image)?.map(({ name, pixels }) => ({ name, pixels: given.get(keyOf(name)) || pixels }));
  return slices ? digestOf(new Survey().take(slices), viewer.segments(opened.image)) : null;
}

/**
 * What is sent to be stored.
 * @param {import('./types').Case} opened looked at just now
 * @param {string} who
 * @returns {import('./types').Submission}
 */
export function submissionOf({ label, origin, base }, who) {
  return {
    client_id: who,
    model: origin?.model ?? null,
    model_version: origin?.model_version ?? null,
    base,
    segments: label.segments.map(({ id, name }) => ({ id, name })),
    slices: withoutStrangers(label),
  };
}

/** Voxels of no segment are none: an organ was deleted. @param {import('./types').Label} label */
function withoutStrangers({ segments, slices }) {
  const ids = new Set(segments.map(({ id }) => id));
  return slices.map((slice) => ({ ...slice, runs: slice.runs.map((n, i) => (i % 2 && !ids.has(n) ? 0 : n)) }));
}

/**
 * The slices that a person means: all, the one that is looked at, or a range in the order of the viewer.
 * @param {import('./types').LabelViewer} viewer
 * @param {string} image
 * @param {string} what "all", "slice" or "range"
 * @param {number} [first] of a range, from 1
 * @param {number} [last]
 * @returns {import('./types').SliceName[] | null} null for all
 * @throws {RangeError} if there are none
 */
export function scopeOf(viewer, image, what, first, last) {
  if (what === 'all') {
    return null;
  }
  if (what === 'range') {
    return sliceRange(viewer.slices(image), first, last);
  }
  const slice = viewer.currentSlice(image);
  if (!slice) {
    throw new RangeError('this slice: look at the series in the plane that it was acquired in');
  }
  return [slice];
}
