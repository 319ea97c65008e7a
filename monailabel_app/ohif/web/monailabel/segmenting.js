/**
 * Asking the server for a label, which takes long enough for a person to change their mind.
 * @module
 */
import { filled, uniqueName } from './cases.js';
import { keyOf } from './runs.js';
import { joined } from './segments.js';
import { same } from './survey.js';

/**
 * Segment a series, or some of its slices; what the person made of the others stays.
 * @param {import('./session.js').Session} session
 * @param {import('./types').Case} opened
 * @param {import('./types').SliceName[] | null} slices
 */
export async function segment(session, opened, slices) {
  const { viewer, now } = session;
  const start = now();
  const before = copyOf(viewer, opened.image, slices);
  const label = await stoppable(session, opened, (how) => session.server.segment(opened.image, session.model, slices, how));
  if (!label) {
    opened.message = { kind: 'done', text: 'Stopped. Nothing was changed.' };
    return;
  }
  const { warnings = [], confidence = {} } = label;
  await viewer.strokeEnded();
  const drawn = before && differs(before, viewer.read(opened.image));
  if (slices && opened.label) {
    const all = joined(viewer.segments(opened.image), label);
    await session.quietly(() => viewer.replace(opened.image, all));
    session.look(opened);
    Object.assign(opened.origin, { warnings, confidence: {} });
  } else {
    const whole = slices ? { ...filled(label, viewer.slices(opened.image)), confidence: {} } : { ...label, confidence };
    await session.show(opened, whole, !slices);
  }
  const text = `Segmented. (${Math.round((now() - start) / 1000)} s)`;
  const lost = ' What was drawn meanwhile is replaced: Ctrl+Z brings it back.';
  opened.message = drawn ? { kind: 'warn', text: text + lost } : { kind: 'done', text };
}

/**
 * What the slices to be replaced hold now.
 * @param {import('./types').LabelViewer} viewer
 * @param {string} image
 * @param {import('./types').SliceName[] | null} slices null for all
 * @returns {Map<string, Uint8Array> | null} null if there is no label
 */
function copyOf(viewer, image, slices) {
  const wanted = slices && new Set(slices.map(keyOf));
  const shown = viewer.read(image)?.filter(({ name }) => !wanted || wanted.has(keyOf(name)));
  return shown ? new Map(shown.map(({ name, pixels }) => [keyOf(name), pixels.slice()])) : null;
}

/**
 * @param {Map<string, Uint8Array>} before by slice
 * @param {{name: import('./types').SliceName, pixels: Uint8Array}[] | null} now
 */
function differs(before, now) {
  return (now || []).some(({ name, pixels }) => before.has(keyOf(name)) && !same(before.get(keyOf(name)), pixels));
}

/**
 * Ask for something, and let `opened.stop` end that, here and on the server.
 * @param {import('./session.js').Session} session
 * @param {import('./types').Case} opened
 * @param {(how: import('./types').HowAsked) => Promise<import('./types').Label>} ask
 * @returns {Promise<import('./types').Label | null>} null if it was stopped
 */
async function stoppable({ server }, opened, ask) {
  const stop = new AbortController();
  const run = uniqueName();
  opened.stop = () => {
    stop.abort();
    server.stopSegmenting(run).catch((error) => console.warn(`The server goes on with it: ${error.message}`));
  };
  try {
    return await ask({ run, signal: stop.signal });
  } catch (error) {
    if (stop.signal.aborted) {
      return null;
    }
    throw error;
  } finally {
    opened.stop = null;
  }
}
