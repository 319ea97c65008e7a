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

export const STYLE = `
.ml { color: #d7e3f4; font: 13px/1.45 Inter, system-ui, sans-serif; padding: 10px; display: grid; gap: 12px;
  grid-template-columns: minmax(0, 1fr); overflow-wrap: anywhere; }
.ml section { display: grid; gap: 6px; }
.ml h2 { font-size: 12px; font-weight: 600; color: #7bb2ff; margin: 0; }
.ml .ml-row { display: flex; gap: 6px; align-items: center; flex-wrap: wrap; }
.ml .small { font-size: 12px; color: #a9bdd8; }
.ml button { background: #1d4ed8; color: #fff; border: 0; border-radius: 4px; padding: 5px 10px; cursor: pointer; }
.ml button:hover { background: #2563eb; }
.ml button:disabled { opacity: .45; cursor: default; }
.ml button.plain { background: none; padding: 2px 5px; color: #a9bdd8; }
.ml button:focus-visible, .ml input:focus-visible, .ml select:focus-visible { outline: 2px solid #7bb2ff; }
.ml input, .ml select { background: #06122b; color: #fff; border: 1px solid #31508a; border-radius: 4px;
  padding: 4px 6px; min-width: 0; }
.ml input[type=number] { width: 4.5em; }
.ml input.wide { flex: 1; }
.ml .badge { padding: 6px 8px; border-radius: 4px; font-weight: 600; }
.ml .automatic { background: #7a4d00; color: #ffe2ad; }
.ml .stored { background: #0d5130; color: #c5f5db; }
.ml .changed { background: #123d7c; color: #d3e5ff; }
.ml .none { background: #25304a; }
.ml .error { background: #6b1620; color: #ffdadd; padding: 6px 8px; border-radius: 4px; }
.ml .done { color: #b9f0cf; white-space: pre-line; }
.ml .organ { display: grid; grid-template-columns: auto auto 1fr auto auto; gap: 6px; align-items: center; }
.ml .organ .name { background: none; color: inherit; text-align: left; padding: 1px 0; }
.ml .swatch { width: 12px; height: 12px; border-radius: 3px; }
.ml progress { width: 100%; }
`;
