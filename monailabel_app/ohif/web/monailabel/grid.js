/**
 * The grid of a series, from what OHIF knows of its images.
 * @module
 */

/**
 * @typedef {object} Plane of one image, as cornerstone gives it
 * @property {number} rows
 * @property {number} columns
 * @property {number} rowPixelSpacing mm
 * @property {number} columnPixelSpacing mm
 * @property {number[]} rowCosines
 * @property {number[]} columnCosines
 * @property {number[]} imagePositionPatient mm
 * @property {number} [sliceThickness] mm
 */

/**
 * @param {Plane[]} planes of all images
 * @returns {{rows: number, columns: number, voxel_ml: number}} the volume is that between neighbouring slices
 */
export function gridOf(planes) {
  const { rows, columns, rowPixelSpacing, columnPixelSpacing, rowCosines: r, columnCosines: c } = planes[0];
  const normal = [r[1] * c[2] - r[2] * c[1], r[2] * c[0] - r[0] * c[2], r[0] * c[1] - r[1] * c[0]];
  const heights = planes.map(({ imagePositionPatient: place }) => normal.reduce((sum, n, i) => sum + n * place[i], 0));
  const range = Math.max(...heights) - Math.min(...heights);
  const step = planes.length > 1 ? range / (planes.length - 1) : planes[0].sliceThickness || 1;
  return { rows, columns, voxel_ml: (rowPixelSpacing * columnPixelSpacing * step) / 1000 };
}
