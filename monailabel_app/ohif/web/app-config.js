/**
 * Configuration of OHIF as the MONAI Label server serves it: one origin, its own data source, our extension.
 * Every address is relative to the server, so that neither host nor port is written anywhere.
 */
window.config = {
  name: 'Swin-UMamba for MONAI Label',
  routerBasename: '/ohif',
  showStudyList: true,
  maxNumberOfWebWorkers: 3,
  showWarningMessageForCrossOrigin: false,
  showCPUFallbackMessage: true,
  showLoadingIndicator: true,
  strictZSpacingForVolumeViewport: true,
  groupEnabledModesFirst: true,
  investigationalUseDialog: { option: 'never' }, // our panel says in every study that results are for research
  extensions: ['/ohif/monailabel/index.js'],
  modes: [],
  modesConfiguration: {
    '@ohif/mode-segmentation': {
      displayName: { $set: 'Segment and correct' },
      routes: { 0: { layoutInstance: { props: { leftPanels: { $unshift: ['monailabel.panelModule.panel'] } } } } },
    },
  },
  customizationService: {},
  defaultDataSourceName: 'pacs',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'pacs',
      configuration: {
        friendlyName: 'PACS',
        name: 'pacs',
        qidoRoot: '/proxy/dicom/qido',
        wadoRoot: '/proxy/dicom/wado',
        wadoUriRoot: '/proxy/dicom/wado',
        queryLimit: 2000, // studies of one query; the list has pages of what came, and its filters are the PACS's
        qidoSupportsIncludeField: true,
        supportsReject: false,
        imageRendering: 'wadors',
        thumbnailRendering: 'wadors',
        enableStudyLazyLoad: true,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        dicomUploadEnabled: false,
        omitQuotationForMultipartRequest: true,
        bulkDataURI: { enabled: true },
        loadMultiframeAsPart10: false, // OHIF cuts frames of one bit at whole bytes, which garbles those of odd sizes
      },
    },
  ],
};
