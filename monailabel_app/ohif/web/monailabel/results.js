/**
 * The DICOM SEGs in OHIF's own list of series. OHIF asks the PACS for them only when a study is opened.
 * @module
 */

/** @typedef {import('./types').StoredResults} StoredResults */

/** @implements {StoredResults} */
export class ResultList {
  /**
   * @param {Record<string, any>} services of OHIF
   * @param {() => any} source gives OHIF's data source
   */
  constructor(services, source) {
    this.services = services;
    this.source = source;
    this.watched = null;
  }

  /** From now on, list nothing of a study that another of its segmentations has superseded. */
  watch() {
    const { displaySetService } = this.services;
    const later = () => window.setTimeout(() => this.tidy()); // others are told of what is added first
    this.unwatch();
    this.watched = displaySetService.subscribe(displaySetService.EVENTS.DISPLAY_SETS_ADDED, later);
    this.tidy();
  }

  unwatch() {
    this.watched?.unsubscribe();
    this.watched = null;
  }

  /**
   * Ask the PACS again for the segmentations of a series' study. Without an answer the list stays as it is.
   * @param {string} image series instance UID
   */
  async renew(image) {
    const sets = this.services.displaySetService.getActiveDisplaySets();
    const study = sets.find((set) => set.SeriesInstanceUID === image)?.StudyInstanceUID;
    await this.ask(study).catch((error) => console.warn(`The list of series is not renewed: ${error.message}`));
  }

  /**
   * List what the PACS has of a study, and what was superseded no longer; but what a person has opened stays.
   * @param {string} study
   */
  async ask(study) {
    const before = this.listed();
    const source = this.source();
    const found = await source.query.series.search(study);
    const series = found.filter(({ modality }) => modality === 'SEG').map(({ seriesInstanceUid }) => seriesInstanceUid);
    if (!series.length) {
      return;
    }
    forget(source, study); // it answers from memory otherwise
    await source.retrieve.series.metadata({ StudyInstanceUID: study, filters: { seriesInstanceUID: series } });
    forget(source, study); // it would take these series for the whole study
    const fresh = this.listed().filter((set) => !before.includes(set)); // also what was taken from the list before
    const again = new Set(fresh.map(({ SeriesInstanceUID: uid }) => uid));
    this.tidy((set) => before.includes(set) && again.has(set.SeriesInstanceUID));
  }

  /**
   * Take from the list what another one in it supersedes; but what a person has opened stays.
   * @param {(set: any) => boolean} [isOld] names more to take away
   */
  tidy(isOld = () => false) {
    const listed = this.listed();
    const superseded = new Set(listed.flatMap(earlierOf));
    const old = listed.filter((set) => (superseded.has(set.SOPInstanceUID) || isOld(set)) && !this.used(set));
    old.forEach((set) => this.services.displaySetService.deleteDisplaySet(set.displaySetInstanceUID));
  }

  /** @returns {any[]} the segmentations in the list */
  listed() {
    return this.services.displaySetService.getActiveDisplaySets().filter(({ Modality }) => Modality === 'SEG');
  }

  /** @param {any} set @returns {boolean} whether a person has opened it */
  used({ displaySetInstanceUID: uid, loading, isLoaded, isHydrated }) {
    const viewports = [...this.services.viewportGridService.getState().viewports.values()];
    return loading || isLoaded || isHydrated || viewports.some((viewport) => viewport.displaySetInstanceUIDs?.includes(uid));
  }
}

/** A result by another model or version has a series of its own. @param {any} set @returns {string[]} what it supersedes */
function earlierOf({ instance }) {
  return [instance?.ReferencedImageSequence ?? []].flat().map(({ ReferencedSOPInstanceUID: uid }) => uid);
}

/** OHIF remembers a study by the name of the source and its UID. @param {any} source @param {string} study */
function forget(source, study) {
  [study, `${source.getConfig().name}:${study}`].forEach((key) => source.deleteStudyMetadataPromise(key));
}
