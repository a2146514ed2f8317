{
  "variables": {
    # Where uvcurl is installed: npx node-gyp rebuild -- -Duvcurl=/path
    "uvcurl%": "/usr/local"
  },
  "targets": [
    {
      "target_name": "fetch",
      "sources": ["fetch.c"],
      "include_dirs": ["<(uvcurl)/include", "<(uvcurl)/include/uvcurl-node"],
      "libraries": ["<(uvcurl)/lib/uvcurl-node/libuvcurl_node.a"],
      "ldflags": ["-Wl,--exclude-libs,ALL"]
    }
  ]
}
