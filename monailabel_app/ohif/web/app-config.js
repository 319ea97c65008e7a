/**
 * Configuration of OHIF as the MONAI Label server serves it: one origin, its own data source, our extension.
 * Every address is relative to the server, so that neither host nor port is written anywhere.
 */

/**
 * What stands in place of OHIF's logo, in the list of studies and beside the tools.
 * @param {{createElement: (tag: string, properties: object, ...children: any[]) => any}} React
 */
function logoOf({ createElement }) {
  const line = { style: { whiteSpace: 'nowrap' } };
  return createElement(
    'div',
    { style: { color: '#fff', font: '13px/1.3 Inter, system-ui, sans-serif' } },
    createElement('div', line, 'Swin-UMamba in OHIF'),
    createElement('div', { style: { ...line.style, color: '#ffce73', fontWeight: 600 } }, 'For research. Not for clinical use.')
  );
}

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
  investigationalUseDialog: { option: 'never' }, // the logo and our panel say it on every page
  whiteLabeling: { createLogoComponentFn: logoOf },
  extensions: ['/ohif/monailabel/index.js'],
  modes: [],
  modesConfiguration: {
    '@ohif/mode-segmentation': {
      displayName: { $set: 'Segment' },
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
