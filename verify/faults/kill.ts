import { stopping } from './stopping.ts'

/** The service is killed without a word, in mid-load, and started again. */
export default stopping('kill', 'SIGKILL')
