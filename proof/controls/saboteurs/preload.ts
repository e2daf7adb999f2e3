import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { spoilHttp, type Agent } from './http.ts'
import { saboteurs } from './saboteurs.ts'
import type { Mission } from './saboteur.ts'

// Loaded by NODE_OPTIONS before the program of a service: see ../sabotage.ts.
const { SABOTEURS = '[]', SABOTEURS_LOG = '' } = process.env
const usualLimit = 3

// No npm or shell stands between the harness and the service. Processes that the service starts itself are left alone.
delete process.env.NODE_OPTIONS

spoilHttp((JSON.parse(SABOTEURS) as Mission[]).map(({ name, customer: own }): Agent => {
  const saboteur = saboteurs[name]
  if (saboteur === undefined) throw new Error(`There is no saboteur ${name}. Nothing was spoiled, and the service was not started.`)
  // Counts its earlier processes, too.
  const done = new Map<string, number>()
  for (const line of existsSync(SABOTEURS_LOG) ? readFileSync(SABOTEURS_LOG, 'utf8').trimEnd().split('\n') : []) {
    const { saboteur: who, customer } = JSON.parse(line) as { saboteur: string, customer: string }
    if (who === name) done.set(customer, (done.get(customer) ?? 0) + 1)
  }
  const did = (customer: string): void => {
    done.set(customer, (done.get(customer) ?? 0) + 1)
    appendFileSync(SABOTEURS_LOG, JSON.stringify({ saboteur: name, customer, at: performance.timeOrigin + performance.now() }) + '\n')
  }
  const may = (customer: string): boolean => (own === null || own === customer) && (done.get(customer) ?? 0) < (saboteur.limit ?? usualLimit)
  saboteur.install?.({ may, did })
  return { saboteur, may, did }
}))
