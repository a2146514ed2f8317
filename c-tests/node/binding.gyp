{
  # Where uvcurl is installed: ln -s /usr/local uvcurl
  "variables": {"uvcurl_addons": ["fetch"]},
  "includes": ["uvcurl/lib/uvcurl-node/uvcurl.gypi"],
  "targets": [{"target_name": "fetch", "sources": ["fetch.c"]}]
}
