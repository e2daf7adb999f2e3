/** Without what `npm run` leaves to the programs it starts: it names this repository, where npm is to work in another folder. */
export function withoutNpm (environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !/^(npm_|INIT_CWD$)/i.test(name)))
}
