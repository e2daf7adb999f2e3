'use strict'

module.exports = require('../dist/test.js')
