/**
 * One series and its label, and what is told about it.
 * @module
 */
import { ServerError } from './server.js';

/** @param {string} image @returns {import('./types').Case} */
export function newCase(image) {
  const empty = { origin: null, base: null, label: null, stored: null, draft: null, message: null };
  return { image, ...empty, counts: [], dirty: false, busy: '', hash: null };
}

/** @param {import('./types').Label} label @returns {import('./types').LabelOrigin} */
export function originOf({ tag, by, time, model, model_version, pacs, digest }) {
  return { tag, by, time, model, model_version, pacs, digest };
}

/** A label of some slices as one of all, the others empty. */
export function filled(label, slices) {
  const there = new Map(label.slices.map((slice) => [slice.uid + slice.frame, slice]));
  const empty = [label.rows * label.columns, 0];
  return { ...label, slices: slices.map((name) => there.get(name.uid + name.frame) || { ...name, runs: empty }) };
}

/** @param {import('./types').LabelOrigin} origin */
export function storedText({ pacs }) {
  if (pacs === 'stored') {
    return 'Stored, and in the PACS as DICOM SEG.';
  }
  if (pacs === 'waits') {
    return 'Stored on the server. The PACS has not taken it yet; the server sends it again until it does.';
  }
  return `Stored on the server. The PACS cannot have it: ${pacs}`;
}

/** @param {string} busy @param {Error} error @returns {import('./types').Message} */
export function failure(busy, error) {
  const status = error instanceof ServerError ? error.status : -1;
  const storing = busy === 'Storing…';
  const actions = { 401: ['login'], 409: ['replace', 'load'] }[status] || (storing ? ['again'] : []);
  const text = storing ? `Not stored: ${error.message} Your changes are still here.` : error.message;
  return { kind: 'error', text, actions: storing ? [...actions, ...(status === 401 ? ['again'] : []), 'save'] : actions };
}

