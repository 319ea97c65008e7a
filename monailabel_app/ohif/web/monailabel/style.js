/**
 * How the panel looks, and OHIF's letters for the sides of the patient.
 * @module
 */

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
.ml .error, .ml .check { padding: 6px 8px; border-radius: 4px; display: grid; gap: 4px; }
.ml .error { background: #6b1620; color: #ffdadd; }
.ml .check { background: #332500; color: #ffe2ad; border-left: 4px solid #f5a524; }
.ml .check b, .ml b.look { color: #ffce73; }
.ml .check ul { margin: 0; padding-left: 16px; list-style: disc; }
.ml .done { color: #b9f0cf; }
.ml .research { color: #ffce73; font-weight: 600; }
.ml .title { font-weight: 600; color: #fff; }
.ml .organ { display: grid; grid-template-columns: auto auto minmax(0, 1fr) auto 2.4em auto; gap: 6px; align-items: center; }
.ml .organ.unsure { grid-template-columns: auto auto minmax(0, 1fr) auto 0 auto; }
.ml .organ .name { background: none; color: inherit; text-align: left; padding: 1px 3px; }
.ml .organ .name[aria-pressed=true] { background: #123d7c; color: #fff; box-shadow: inset 2px 0 #7bb2ff; }
.ml .organ .number { font-size: 12px; color: #a9bdd8; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.ml .organ .why { grid-column: 3 / -1; color: #ffe2ad; font-size: 12px; padding-left: 3px; }
.ml .organ .low { color: #ffce73; font-weight: 600; }
.ml .swatch { width: 12px; height: 12px; border-radius: 3px; }
.ml .ml-head { justify-content: space-between; }
.ml progress { width: 100%; height: 6px; appearance: none; border: 0; border-radius: 3px; overflow: hidden; background: #25304a; }
.ml progress::-webkit-progress-bar { background: #25304a; }
.ml progress::-webkit-progress-value { background: #7bb2ff; }
.ml progress::-moz-progress-bar { background: #7bb2ff; }
.ml progress:indeterminate::-webkit-progress-bar { background: linear-gradient(90deg, #25304a 35%, #7bb2ff 50%, #25304a 65%);
  background-size: 200% 100%; animation: ml-wait 1.6s linear infinite; }
@keyframes ml-wait { from { background-position: 200% 0; } to { background-position: 0 0; } }
.ml ::placeholder { color: #8094b5; opacity: 1; font-style: italic; }
.ml summary { cursor: pointer; }
`;

export const MARKERS = `
.ViewportOrientationMarkers .orientation-marker { font-size: 20px; font-weight: 700; color: #fff; opacity: 1;
  text-shadow: 0 0 3px #000, 0 0 3px #000, 0 0 6px #000; }
`;
