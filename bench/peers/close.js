// Without any package, like most services.
export default async function (app, { closing }) {
  app.addHook('preClose', async () => closing())
  let stopped
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.on(signal, () => {
      stopped ??= app.close().then(() => process.exit(0), () => process.exit(1))
    })
  }
  return {}
}
