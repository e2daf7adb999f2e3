import { NestFactory } from '@nestjs/core';
import {
  FastifyAdapter,
  NestFastifyApplication,
} from '@nestjs/platform-fastify';
import drain from 'fastify-drain'; // drain
import { AppModule } from './app.module.js';

async function bootstrap() {
  const app = await NestFactory.create<NestFastifyApplication>(
    AppModule,
    new FastifyAdapter({ logger: true }), // drain: its last line is the report
  );
  await app.register(drain, { lameDuck: { min: 1_000 }, deadline: 10_000, onReport: () => app.close() }); // drain: instead of enableShutdownHooks()
  await app.listen(process.env.PORT ?? 3000);
}
await bootstrap();
