/** What a subject did wrong, in the few words of a table's cell. */
export class Fault extends Error {}

export function must (holds: boolean, fault: string): asserts holds {
  if (!holds) throw new Fault(fault)
}
