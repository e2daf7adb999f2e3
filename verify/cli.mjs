#!/usr/bin/env node
// Plain JavaScript, and no import before the check: an older Node must print this message and not fail on an unknown name.
const [major, minor] = process.versions.node.split('.').map(Number)

if (major > 22 || (major === 22 && minor >= 19)) {
  await import('./dist/verify/bin.js')
} else {
  console.error(`last-orders-verify needs Node 22.19 or later, and this is ${process.version}. Nothing was started. ` +
    'On Linux, npx last-orders-verify uses the Node 24 that is installed with it; elsewhere, install a newer Node.')
  process.exitCode = 2
}
