"""Overrides that make a recipe's training take two steps."""

QUICK = (
    "data.params.num_workers=0",
    "data.params.batch_size=2",
    "lightning.callbacks.image_logger.params.log_images_kwargs.ddim_steps=2",
    "lightning.trainer.max_steps=2",
    "lightning.trainer.val_check_interval=2",
    "lightning.trainer.log_every_n_steps=1",
    "lightning.trainer.num_sanity_val_steps=0",
)
