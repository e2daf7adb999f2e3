import { stopping } from './stopping.ts'

/** The service is told to stop, in mid-load, and started again. */
export default stopping('term', 'SIGTERM')
