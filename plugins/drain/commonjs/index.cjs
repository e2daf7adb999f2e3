'use strict'

// There is one build, so that `require` and `import` in one process get the same plugin. Like every plugin of Fastify it
// is what the module exports, and also its `default`.
const drain = require('../dist/index.js')

module.exports = Object.assign(drain.default, drain)
