/**
 * Elements, styles and words of the panel.
 * @module
 */

/**
 * @param {string} tag
 * @param {Record<string, any>} [properties] of the element; `data` becomes its data-cy attribute, for tests
 * @param {...(Node | string | null | false | undefined)} children
 * @returns {any}
 */
export function el(tag, { data, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  if (data) {
    element.dataset.cy = data;
  }
  element.append(.../** @type {(Node | string)[]} */ (children.filter((child) => child || child === '')));
  return element;
}

/** @param {string} text @param {() => void} onclick @param {Record<string, any>} [more] */
export function button(text, onclick, more = {}) {
  return el('button', { type: 'button', textContent: text, onclick, ...more });
}

/** @param {Record<string, string>} choices {value: text} @param {Record<string, any>} [more] */
export function select(choices, more = {}) {
  const options = Object.entries(choices).map(([value, text]) => el('option', { value, textContent: text }));
  return el('select', more, ...options);
}

/** @param {string} text @param {string} type @param {string} name of the file */
export function download(text, type, name) {
  const href = URL.createObjectURL(new Blob([text], { type }));
  el('a', { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60000);
}

/** @param {number} voxels @param {number} voxelMl @returns {string} such as "12.3 mL" */
export function millilitres(voxels, voxelMl) {
  const volume = voxels * voxelMl;
  return voxels ? `${volume.toFixed(volume < 10 ? 2 : 1)} mL` : '–';
}

/** @param {number | null} time seconds since 1970 */
export function dateText(time) {
  return time ? new Date(time * 1000).toLocaleString() : '';
}

/**
 * Put new content into an element, unless it is there already: a button that is drawn anew loses the keyboard's focus,
 * and a click whose button goes between mouse down and up.
 * @param {any} parent
 * @param {(Node | string | null | false | undefined)[]} content
 */
export function refill(parent, content) {
  const wanted = content.filter(Boolean).map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
  const there = [...parent.childNodes];
  if (wanted.length === there.length && wanted.every((node, i) => sameNode(node, there[i]))) {
    return;
  }
  const focused = parent.contains(document.activeElement) ? keyOf(document.activeElement) : '';
  parent.replaceChildren(...wanted);
  if (focused) {
    [...parent.querySelectorAll('button, input, select')].find((node) => keyOf(node) === focused)?.focus();
  }
}

/** @param {any} one @param {any} other */
function sameNode(one, other) {
  const boxes = [one, other].map((node) => [...(node.querySelectorAll?.('input') || [])].map(({ checked }) => checked).join());
  return boxes[0] === boxes[1] && one.isEqualNode(other);
}

/** @param {any} node @returns {string} what tells a control from the others beside it */
function keyOf(node) {
  return [node.tagName, node.dataset.cy, node.title, node.textContent].join(' ');
}
