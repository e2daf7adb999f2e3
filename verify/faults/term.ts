import { stopping } from './stopping.ts'

/** The service gets SIGTERM under load, and is restarted. */
export default stopping('term', 'SIGTERM')
