SET lock_timeout = '1s';

-- version: one more at each change, a sale among them; it is the product's ETag.
-- withdrawn_stock: what a withdrawn product has. Orders look at stock, which is 0 then.
ALTER TABLE "products"
    ADD COLUMN "version" BIGINT NOT NULL DEFAULT 1,
    ADD COLUMN "withdrawn" BOOLEAN NOT NULL DEFAULT false,
    ADD COLUMN "withdrawn_stock" BIGINT NOT NULL DEFAULT 0;

CREATE TABLE "stock_changes" (
    "id" UUID NOT NULL,
    "changed_by" TEXT NOT NULL,
    "idempotency_key" TEXT NOT NULL,
    "sku" TEXT NOT NULL,
    "delta" BIGINT NOT NULL,
    "reason" TEXT NOT NULL,
    "stock" BIGINT NOT NULL,
    "replays" INTEGER NOT NULL DEFAULT 0,
    "created_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "stock_changes_pkey" PRIMARY KEY ("id")
);

CREATE UNIQUE INDEX "stock_changes_changed_by_idempotency_key_key" ON "stock_changes"("changed_by", "idempotency_key");

CREATE INDEX "stock_changes_sku_id_idx" ON "stock_changes"("sku", "id");

-- In a trigger, as the stock is written by place_orders, by transition_order and by people: no way of writing it can leave the
-- version as it was, or put what is withdrawn on sale.
CREATE FUNCTION product_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.version := OLD.version + 1;
  IF NEW.withdrawn THEN
    NEW.withdrawn_stock := NEW.withdrawn_stock + NEW.stock;
    NEW.stock := 0;
  ELSIF NEW.withdrawn_stock <> 0 THEN
    NEW.stock := NEW.stock + NEW.withdrawn_stock;
    NEW.withdrawn_stock := 0;
  END IF;
  RETURN NEW;
END $$;

-- safe-because: it writes columns that the version before does not know, and raises nothing; only a product that the new version withdrew has another stock than was written
CREATE TRIGGER products_changed BEFORE UPDATE ON "products" FOR EACH ROW EXECUTE FUNCTION product_changed();

-- Creates a product, or changes what is given of it; NULL stays as it is.
--
-- must_exist and expected are If-Match: expected is NULL for any version. must_not_exist and unexpected are If-None-Match.
-- Returns { outcome, product }. An outcome is one of
--   created · updated · not-found · version-mismatch · version-required
-- version-required: the stock of a product that exists is set only with If-Match. A product is created where it has a stock.
CREATE FUNCTION put_product(put_sku text, put_name text, put_unit_price bigint, put_currency text, put_stock bigint, put_withdrawn boolean,
                            must_exist boolean, expected bigint[], must_not_exist boolean, unexpected bigint[])
RETURNS json LANGUAGE plpgsql AS $$
DECLARE
  found_product products%ROWTYPE;
  result text;
BEGIN
  IF put_stock IS NOT NULL AND NOT must_exist THEN
    INSERT INTO products AS p (sku, name, unit_price, currency, stock, withdrawn, withdrawn_stock)
    VALUES (put_sku, put_name, put_unit_price, put_currency,
            CASE WHEN put_withdrawn THEN 0 ELSE put_stock END, coalesce(put_withdrawn, false), CASE WHEN put_withdrawn THEN put_stock ELSE 0 END)
    -- Waits for a twin in flight, whose row the statement after this one sees.
    ON CONFLICT (sku) DO NOTHING
    RETURNING p.* INTO found_product;
    IF FOUND THEN
      RETURN json_build_object('outcome', 'created', 'product', product_json(found_product));
    END IF;
  END IF;

  SELECT p.* INTO found_product FROM products p WHERE p.sku = put_sku FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN json_build_object('outcome', CASE WHEN must_exist THEN 'version-mismatch' ELSE 'not-found' END, 'product', NULL);
  END IF;
  IF must_not_exist OR found_product.version = ANY (unexpected) OR NOT found_product.version = ANY (expected) THEN
    result := 'version-mismatch';
  ELSIF put_stock IS NOT NULL AND NOT must_exist THEN
    result := 'version-required';
  ELSE
    result := 'updated';
    UPDATE products p
       SET name = coalesce(put_name, p.name), unit_price = coalesce(put_unit_price, p.unit_price), currency = coalesce(put_currency, p.currency),
           withdrawn = coalesce(put_withdrawn, p.withdrawn),
           stock = coalesce(put_stock, p.stock), withdrawn_stock = CASE WHEN put_stock IS NULL THEN p.withdrawn_stock ELSE 0 END
     WHERE p.sku = put_sku
    RETURNING p.* INTO found_product;
  END IF;
  RETURN json_build_object('outcome', result, 'product', product_json(found_product));
END $$;

-- What the service calls a product. Its numbers are exact: none is above 2⁵³ − 1.
CREATE FUNCTION product_json(product products) RETURNS json LANGUAGE sql STABLE AS $$
  SELECT json_build_object('sku', product.sku, 'name', product.name, 'unitPrice', product.unit_price, 'currency', product.currency,
                           'stock', product.stock + product.withdrawn_stock, 'withdrawn', product.withdrawn, 'version', product.version)
$$;

-- Adds to the stock of a product, or takes from it, once for each key of by_staff.
--
-- Returns { outcome, change }. An outcome is one of
--   changed · replayed · key-reused · not-found · out-of-stock · stock-too-large
-- change is there where it was changed or replayed, as first made. A refusal leaves no row.
-- As in place_orders: DO UPDATE waits for a twin in flight, and a replay's own commit waits for what it acknowledges; the key
-- is locked before the stock.
CREATE FUNCTION change_stock(change_id uuid, by_staff text, change_key text, change_sku text, change_delta bigint, change_reason text, stock_max bigint, changed_at timestamptz)
RETURNS json LANGUAGE plpgsql AS $$
DECLARE
  claim stock_changes%ROWTYPE;
  stock_before bigint;
  result text;
BEGIN
  INSERT INTO stock_changes AS c (id, changed_by, idempotency_key, sku, delta, reason, stock, created_at)
  VALUES (change_id, by_staff, change_key, change_sku, change_delta, change_reason, 0, changed_at)
  ON CONFLICT (changed_by, idempotency_key) DO UPDATE SET replays = c.replays + 1
  RETURNING c.* INTO claim;

  IF claim.replays > 0 THEN
    result := CASE WHEN (claim.sku, claim.delta, claim.reason) = (change_sku, change_delta, change_reason) THEN 'replayed' ELSE 'key-reused' END;
  ELSE
    SELECT p.stock + p.withdrawn_stock INTO stock_before FROM products p WHERE p.sku = change_sku FOR NO KEY UPDATE;
    result := CASE
      WHEN stock_before IS NULL THEN 'not-found'
      WHEN stock_before + change_delta < 0 THEN 'out-of-stock'
      WHEN change_delta > 0 AND stock_before + change_delta > stock_max THEN 'stock-too-large'
      ELSE 'changed'
    END;
    IF result = 'changed' THEN
      UPDATE products p SET stock = p.stock + change_delta WHERE p.sku = change_sku;
      UPDATE stock_changes c SET stock = stock_before + change_delta WHERE c.id = change_id RETURNING c.* INTO claim;
    ELSE
      DELETE FROM stock_changes c WHERE c.id = change_id;
    END IF;
  END IF;

  RETURN json_build_object('outcome', result, 'change', CASE WHEN result IN ('changed', 'replayed') THEN json_build_object(
    'id', claim.id, 'sku', claim.sku, 'delta', claim.delta, 'reason', claim.reason, 'stock', claim.stock, 'changedBy', claim.changed_by, 'createdAt', claim.created_at) END);
END $$;
