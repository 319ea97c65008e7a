/**
 * The range of OHIF's threshold brush. OHIF has one for CT, from -1000 to 1000, in which many grey values of MRI do not
 * lie, so that the brush would do nothing; here it is that of the series.
 * @module
 */

const BRUSHES = ['ThresholdCircularBrush', 'ThresholdSphereBrush'];
const STEPS = 1000; // of the slider, at least
const WAIT = 300; // ms after an image was loaded

/** Keeps the range that of the series that is looked at. */
export class ThresholdRange {
  /**
   * @param {Record<string, any>} services of OHIF
   * @param {{runCommand: (name: string, options: object) => any}} commands of OHIF
   * @param {() => {imageIds: string[], SeriesInstanceUID: string} | undefined} look gives the display set in view
   * @param {{cornerstone: any}} [globals] as OHIF's page exposes them
   */
  constructor(services, commands, look, globals = window) {
    this.services = services;
    this.commands = commands;
    this.look = look;
    this.globals = globals;
    this.series = '';
    /** @type {number[]} what we have proposed last */
    this.proposed = [];
    this.loaded = () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.fit(), WAIT);
    };
  }

  /** Follow the images as they are loaded. */
  watch() {
    this.globals.cornerstone.eventTarget.addEventListener(this.globals.cornerstone.Enums.Events.IMAGE_LOADED, this.loaded);
    this.loaded();
  }

  /** Do not follow them any more. */
  unwatch() {
    clearTimeout(this.timer);
    this.globals.cornerstone.eventTarget.removeEventListener(this.globals.cornerstone.Enums.Events.IMAGE_LOADED, this.loaded);
  }

  /** Set the ends of the slider, and its values unless a person has set them. */
  fit() {
    const { toolbarService, viewportGridService } = this.services;
    const shown = this.look();
    const option = toolbarService.getButtonProps('Threshold')?.options?.find(({ id }) => id === 'threshold-range');
    const values = shown && greyValues(shown.imageIds, this.globals.cornerstone.cache);
    if (!option || !values || (option.min === values[0] && option.max === values[1])) {
      return;
    }
    const [min, max] = values;
    const touched = this.series === shown.SeriesInstanceUID && String(option.value) !== String(this.proposed);
    this.series = shown.SeriesInstanceUID;
    this.proposed = touched ? option.value : [Math.round((min + max) / 2), max];
    Object.assign(option, { min, max, step: Math.min(1, (max - min) / STEPS), value: this.proposed });
    this.commands.runCommand('setThresholdRange', { toolNames: BRUSHES, value: this.proposed });
    toolbarService.refreshToolbarState({ viewportId: viewportGridService.getActiveViewportId() });
  }
}

/**
 * @param {string[]} imageIds
 * @param {{getImage: (id: string) => {minPixelValue: number, maxPixelValue: number} | undefined}} cache of cornerstone
 * @returns {[number, number] | null} the smallest and the largest of the images that are loaded
 */
export function greyValues(imageIds, cache) {
  const images = imageIds.map((id) => cache.getImage(id)).filter(Boolean);
  const min = Math.min(...images.map(({ minPixelValue }) => minPixelValue));
  const max = Math.max(...images.map(({ maxPixelValue }) => maxPixelValue));
  return max > min ? [min, max] : null;
}
