import { appendFileSync } from 'node:fs'
import { spoilHttp, type Agent } from './http.ts'
import { saboteurs } from './saboteurs.ts'
import type { Mission } from './saboteur.ts'

// Loaded by NODE_OPTIONS before the program of a service: see ../sabotage.ts.
const { SABOTEURS = '[]', SABOTEURS_LOG = '' } = process.env
const usualLimit = 6

// Of npm and the like between the harness and the service there is none; but what the service itself starts is left alone.
delete process.env.NODE_OPTIONS

spoilHttp((JSON.parse(SABOTEURS) as Mission[]).map(({ name, customers }): Agent => {
  const saboteur = saboteurs[name]
  if (saboteur === undefined) throw new Error(`There is no saboteur ${name}. Nothing was spoiled, and the service was not started.`)
  const done = new Map<string, number>()
  const did = (customer: string): void => {
    done.set(customer, (done.get(customer) ?? 0) + 1)
    appendFileSync(SABOTEURS_LOG, JSON.stringify({ saboteur: name, customer, at: performance.timeOrigin + performance.now() }) + '\n')
  }
  const of = customers && new Set(customers)
  const may = (customer: string): boolean => (of === null || of.has(customer)) && (done.get(customer) ?? 0) < (saboteur.limit ?? usualLimit)
  saboteur.install?.({ may, did })
  return { saboteur, may, did }
}))
