import { stopping } from './stopping.ts'

/** The service is killed by SIGKILL under load, and restarted. */
export default stopping('kill', 'SIGKILL')
