"""What a model call costs in USD: from the caller, a price file, or the list of `genai-prices`.

`usage` counts tokens, `names` settles providers and models, `custom` reads the price file,
`pricelist` holds the bundled list, `pricing` chooses among them, `spans` prices the attributes of
any emitter's span. `processors.pricing` applies that on the way out, the gen_ai helpers ask
`pricing` themselves. Nothing is fetched, and the list is not loaded before the first model call.
"""
