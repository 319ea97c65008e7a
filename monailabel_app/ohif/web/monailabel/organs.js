/**
 * The list of organs: shown or not, which one is painted, volume, confidence, and what to look at.
 * @module
 */
import { checksOf, confidenceOf } from './checks.js';
import { button, el, millilitres } from './dom.js';

const CONFIDENCE = 'how sure the model is of this organ, 0 to 1: its own estimate of the Dice, not a probability';

/**
 * @param {import('./types').Case | null} opened
 * @param {import('./viewer.js').OhifViewer} viewer
 * @param {() => void} draw the panel again
 * @returns {any[]} rows
 */
export function organRows(opened, viewer, draw) {
  if (!opened?.label) {
    return [el('div', { className: 'small', textContent: 'Nothing is segmented yet.' })];
  }
  const { segments } = opened.label;
  const { organs } = checksOf(warningsOf(opened), segments);
  const active = viewer.activeSegment(opened.image);
  const sure = segments.some((segment) => confidenceOf(opened, segment) !== null);
  const head = ['click to paint', sure ? 'volume, confidence' : 'volume'].map((text) => el('span', { className: 'small', textContent: text }));
  head[1].title = CONFIDENCE;
  const rows = segments.map((segment) => row(opened, viewer, draw, segment, active === segment.id, organs.get(segment.id) || []));
  rows.forEach((one) => one.classList.toggle('unsure', !sure));
  return [el('div', { className: 'ml-row ml-head' }, ...head), ...rows];
}

/** @param {import('./types').Case} opened @returns {string[]} warnings, until a person has stored the label */
export function warningsOf({ origin }) {
  return origin?.warnings || [];
}

/**
 * @param {import('./types').Case} opened
 * @param {import('./viewer.js').OhifViewer} viewer
 * @param {() => void} draw
 * @param {import('./types').Segment} segment
 * @param {boolean} active
 * @param {string[]} why it is to be looked at
 */
function row(opened, viewer, draw, segment, active, why) {
  const { image, label, counts } = opened;
  const { id, name, color = [128, 128, 128] } = segment;
  const visible = el('input', { type: 'checkbox', checked: viewer.isVisible(image, id), title: `show ${name}`, ariaLabel: `show ${name}` });
  visible.onchange = () => viewer.setVisible(image, id, visible.checked);
  const swatch = el('span', { className: 'swatch' });
  swatch.style.background = `rgb(${color.join()})`;
  const activate = () => {
    viewer.activate(image, id);
    draw();
  };
  const paint = button(name, activate, { className: 'name', title: `paint ${name}`, ariaPressed: String(active) });
  const volume = el('span', { className: 'number', textContent: millilitres(counts[id], label.voxel_ml), data: 'ml-volume' });
  const sure = confidenceOf(opened, segment);
  const low = why.some((warning) => warning.startsWith('low confidence'));
  const confidence = el('span', { className: `number${low ? ' low' : ''}`, title: CONFIDENCE, data: 'ml-confidence' }, sure?.toFixed(2));
  const remove = button('×', () => viewer.removeSegment(image, id), {
    ...{ className: 'plain', title: `delete ${name}`, ariaLabel: `delete ${name}` },
  });
  const mark = el('b', { className: 'look' }, '⚠ Check: ');
  const look = why.length > 0 && el('span', { className: 'why', title: why.join('\n'), data: 'ml-look' }, mark, why.map(shortened).join('; '));
  const found = el('div', { className: 'organ', data: 'ml-organ' }, visible, swatch, paint, volume, confidence, remove, look);
  Object.assign(found.dataset, { organ: name, image });
  return found;
}

/** @type {[RegExp, string][]} */
const SHORTER = [
  [/^low confidence.*/, 'low confidence'],
  [/^in the first or last slice.*/, 'in the first or last slice, perhaps a part only'],
  [/^.* is (in \d+ pieces).*/, '$1'],
  [/^clean-up took (.* mL) off .*/, 'clean-up took off $1'],
];

/** A warning beside the organ that it names, in as few words. @param {string} warning @returns {string} */
export function shortened(warning) {
  return SHORTER.reduce((text, [long, short]) => text.replace(long, short), warning);
}
