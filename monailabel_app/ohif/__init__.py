"""The OHIF viewer at `/ohif/`: the published site, fetched by `python -m monailabel_app.ohif fetch`, and our extension.

`package` fetches and verifies the site; `site` serves it; the folder `web` holds what is laid over it: `app-config.js`
and the extension `monailabel/`, plain ES modules that OHIF loads at run time.
"""
