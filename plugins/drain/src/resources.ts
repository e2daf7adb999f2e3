/**
 * What keeps the event loop alive, by Node's names: a timer that was not cleared, a socket that was not closed.
 *
 * @param ownTimers how many timers are the stop's own
 */
export function activeResources (ownTimers: number): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const type of process.getActiveResourcesInfo()) counts[type] = (counts[type] ?? 0) + 1
  const others = (counts.Timeout ?? 0) - ownTimers
  if (others > 0) counts.Timeout = others
  else delete counts.Timeout
  return counts
}
