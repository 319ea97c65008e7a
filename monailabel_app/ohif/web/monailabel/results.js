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
    const { displaySetService } = this.services;
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
    const listed = this.listed(); // also what was taken from the list before
    const fresh = listed.filter((set) => !before.includes(set));
    const superseded = new Set(listed.flatMap(earlierOf));
    const again = new Set(fresh.map(({ SeriesInstanceUID: uid }) => uid));
    const isOld = (set) => superseded.has(set.SOPInstanceUID) || (before.includes(set) && again.has(set.SeriesInstanceUID));
    const old = listed.filter((set) => isOld(set) && !this.used(set));
    old.forEach((set) => displaySetService.deleteDisplaySet(set.displaySetInstanceUID));
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
