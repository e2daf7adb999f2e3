import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { bearer, Outbound, Unclear, type Answer, type OutboundOptions, type Token } from './outbound.ts'
import type { components } from '../contracts/customers.d.ts'
import type { Customers, CustomerStatus } from '../orders/ports.ts'

export interface HttpCustomersOptions extends Pick<OutboundOptions, 'url' | 'timeoutMs' | 'log' | 'onEnd' | 'breakMs'> {
  /** Sent as Authorization: Bearer. */
  token?: Token
}

const customerAnswer = Compile(Type.Object({
  id: Type.String(),
  status: Type.Enum(['active', 'suspended'])
}))

/** A directory that speaks contracts/customers.yaml. The caller closes it. */
export function httpCustomers ({ token, ...options }: HttpCustomersOptions): Customers & { close (): Promise<void> } {
  const directory = new Outbound({ ...options, name: 'CUSTOMERS_URL', headers: () => bearer(token) })

  function statusOf (customer: string, answer: Answer): CustomerStatus {
    if (answer.status === 404) return 'unknown'
    if (answer.status !== 200) throw new Unclear(`CUSTOMERS_URL refused with ${answer.status}.`, { status: answer.status })
    const { id, status }: components['schemas']['Customer'] = directory.bodyOf(customerAnswer, answer, 'validate')
    if (id !== customer) throw directory.againstContract({ status: answer.status, kind: 'validate', faults: ['/id is not what was asked'] })
    return status
  }

  return {
    async validate (customer, call) {
      // As path segments these would reach another resource, even percent-encoded.
      if (customer === '.' || customer === '..') return 'unknown'
      return await directory.ask({ kind: 'validate', method: 'GET', path: `/customers/${encodeURIComponent(customer)}`, read: answer => statusOf(customer, answer) }, call)
    },
    close: async () => await directory.close()
  }
}
