/** What a subject did that it must not, in the few words of a table's cell. */
export class Fault extends Error {}

export function must (holds: boolean, fault: string): asserts holds {
  if (!holds) throw new Fault(fault)
}
