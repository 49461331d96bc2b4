"""Key lines of the library and what ``tests/mutations.py`` turns each into.

A line's text has to be in its file once. Whoever changes such a line changes it here too.
"""

from __future__ import annotations

Row = tuple[str, str]
"""What stands in a file, and what comes in its place."""

PROCESS, DIFFUSION = "tests/ldm/process", "tests/ldm/models/diffusion"
HUBS, TRUST = "tests/ldm/models", "tests/trust"
NETWORKS, PIPELINES = "tests/ldm/modules", "tests/ldm/pipelines"
CONTROL = f"{NETWORKS}/attention_control"
BOT, TRANSLATION = "tests/apps/line_bot", "tests/ldm/translation"
WEB, PAGES = "tests/optimizedSD/web", "tests/trust/test_pages.py"
ORACLE, BEHAVIOUR = f"{DIFFUSION}/test_oracle.py", f"{DIFFUSION}/test_sampler_behaviour.py"

# A file of the library, and the tests (files or single ones) that guard it: its lines.
TABLE: dict[tuple[str, str], tuple[Row, ...]] = {
    # The LINE bot.
    ("apps/line_bot/webhook.py", f"{BOT}/test_webhook.py"): (
        ("if not hmac.compare_digest(right", "if hmac.compare_digest(right"),
        ('"ON CONFLICT (event_id) DO NOTHING"', '""'),
        ("if len(body) > LARGEST_BODY:", "if len(body) < 0:"),
    ),
    ("apps/line_bot/pictures.py", f"{BOT}/test_pictures.py"): (
        ("if NAME.fullmatch(name) else None", "if name else None"),
        ("if buffer.tell() <= most:", "if buffer.tell() >= 0:"),
        ('if not url.startswith("https://"):', 'if not url.startswith("http"):'),
    ),
    ("apps/line_bot/delivery.py", f"{BOT}/test_delivery.py"): (
        ("if outcome.value == 0:", "if outcome.value == -1:"),
        (
            "self.api.push(letter.chat, found, letter.retry_key)",
            'self.api.push(letter.chat, found, "")',
        ),
        ("if not repeated and age >= self.fresh:", "if False:"),
    ),
    ("apps/line_bot/intake.py", f"{BOT}/test_intake.py"): (
        ("elif self.queue.waiting(origin.user) >= chosen.waiting_jobs:", "elif False:"),
        ("or job.chat != incoming.origin.chat", ""),
        ('return self.settings.open_to == "all" or bool(listed)', "return True"),
    ),
    ("apps/line_bot/words.py", f"{BOT}/test_words.py"): (
        ("if refused.finds(prompt):", "if refused.finds(plain[:0]):"),
        ("if len(prompt) > limits.prompt:", "if len(prompt) < 0:"),
    ),
    ("apps/line_bot/admin.py", f"{BOT}/test_admin.py"): (
        ('if token.equals(given.partition(":")[2]):', "if given:"),
        ("html.escape(value)", "value"),
    ),
    # Translation.
    ("ldm/pipelines/translating.py", f"{PIPELINES}/test_translating.py"): (
        ("if record.left_out and said:", "if record.left_out and not said:"),
        ("changed[name] = into(value)", "into(value)"),
    ),
    ("ldm/translation/politeness.py", f"{TRANSLATION}/test_translate.py"): (
        ('phrase = _BEGINNING.sub("", phrase)', "phrase = phrase"),
    ),
    # Attention control.
    ("ldm/modules/attention_control/windows.py", f"{CONTROL}/test_windows.py"): (
        ("int(share * len(table))", "int(share * (len(table) - 1))"),
        ("by_word.pop(DEFAULT, 1.0)", "by_word.pop(DEFAULT, 0.8)"),
    ),
    ("ldm/modules/attention_control/edit.py", f"{CONTROL}/test_edit.py"): (
        ('row.part != "cond"', 'row.part == "other"'),
        ("site.rate >= self._self_rate", "site.rate <= self._self_rate"),
        ("if rows != prompts * pictures:", "if rows < 0:"),
        ("self._sources[site.path, picture] = probs", "self._sources[site.path, 0] = probs"),
        ("len(self._windows) != total + 1", "self._windows is False"),
    ),
    ("ldm/modules/attention_control/replace.py", f"{CONTROL}/test_replace.py"): (
        ("self.mappers[target]", "self.mappers[0]"),
    ),
    ("ldm/modules/attention_control/refine.py", f"{CONTROL}/test_refine.py"): (
        ("base[..., index] * kept + own * (1.0 - kept)", "base[..., index]"),
    ),
    ("ldm/modules/attention_control/auto.py", f"{CONTROL}/test_auto.py"): (
        ("super().__init__(source, targets, **windows)", "super().__init__(source, targets)"),
    ),
    ("ldm/modules/attention_control/reweight.py", f"{CONTROL}/test_reweight.py"): (
        ("return maps * self.factors[target].to(own)", "return maps"),
    ),
    ("ldm/modules/attention_control/store.py", f"{CONTROL}/test_store.py"): (
        ("(maps - before) / count", "(maps - before) / (count + 1)"),
        ('if row.part == "cond"', "if row.part"),
        ("% self.every == 0", "% self.every >= 0"),
    ),
    ("ldm/modules/attention_control/local_blend.py", f"{CONTROL}/test_local_blend.py"): (
        ("mask[:1] | mask", "mask"),
        ("torch.where(mask, prompts, source)", "source + mask * (prompts - source)"),
        ("moment.number < int(", "moment.number <= int("),
    ),
    ("ldm/modules/attention_control/chain.py", f"{CONTROL}/test_chain.py"): (
        ("x = each.after_step(x, moment)", "each.after_step(x, moment)"),
    ),
    ("ldm/modules/attention_control/sites.py", f"{CONTROL}/test_published_numbers.py"): (
        ("QUARTER = 4", "QUARTER = 2"),
    ),
    ("ldm/pipelines/columns.py", f"{PIPELINES}/test_columns.py"): (
        ("first = column * self.pictures", "first = 0"),
        (
            "drawn = self.noise.randn((rows // self.columns, *rest)",
            "drawn = self.noise.randn((rows, *rest)",
        ),
        ("with rows_in_turn(rows, len(x)):", "with rows_in_turn(rows[:1], len(x)):"),
    ),
    ("ldm/settings/swap.py", "tests/ldm/settings/test_swap.py"): (
        ('source = None if self.invert == "none" else self.source', "source = self.source"),
        ("if k == DEFAULT or has(k)}", "if has(k)}"),
    ),
    ("ldm/pipelines/editing.py", "tests/scripts/test_swap.py"): (
        ("wanted = [1 if sourced else 0]", "wanted = [0]"),
        ("wanted = [*numbers[1:], 0] if sourced else [*numbers]", "wanted = [*numbers]"),
    ),
    # What files may claim.
    ("ldm/checkpoint/pickle_machine.py", f"{TRUST}/test_pickles.py"): (
        ("if not isinstance(target, Inert):", "if target is None:"),
        ("if isinstance(part, (tuple, list, dict, set, frozenset, bytearray)):", "if part == ():"),
        ("argument.bit_length() > 8 * budgets", "argument.bit_length() > 800_000 * budgets"),
    ),
    ("ldm/checkpoint/pickle_machine.py", "tests/ldm/checkpoint/test_pickle_machine.py"): (
        ("self._position = min(start + count, self._end)", "self._position = start + count"),
        ("if count > budgets.PICKLE_OPCODES:", "if count < 0:"),
    ),
    ("ldm/checkpoint/unpickle.py", f"{TRUST}/test_pickles.py"): (
        ("if view not in ([], [None]):", "if view == 3:"),
        ("not 0 <= n < 2**62", "not n < 2**62"),
    ),
    ("ldm/checkpoint/unpickle.py", "tests/ldm/checkpoint/test_known_names.py"): (
        ("if not function.made:", "if function is None:"),
    ),
    ("ldm/checkpoint/torch_files.py", f"{TRUST}/test_pickles.py"): (
        ("if (last + 1) * size > stored.count", "if last * size > stored.count"),
        ("if record is None or stored.count", "if record is None or 0 * stored.count"),
        ("if numbers * size > room:", "if numbers < 0:"),
    ),
    ("ldm/checkpoint/torch_files.py", f"{TRUST}/test_zips.py"): (
        ("and data[after : after + name] == named", "and named"),
        ("if packed > max(_SMALL,", "if packed < min(_SMALL,"),
        ("if item.file_size > budgets.PICKLE_BYTES:", "if item.file_size < 0:"),
        ("if len(items) != len(archive.infolist()):", "if len(items) == 0:"),
    ),
    ("ldm/checkpoint/torch_files.py", "tests/ldm/checkpoint/test_torch_files.py"): (
        ("and self.start % _ALIGNED == 0", "and self.start >= 0"),
    ),
    ("ldm/checkpoint/safetensors_header.py", f"{TRUST}/test_headers.py"): (
        ("if len(header) > budgets.SAFETENSORS_TENSORS:", "if len(header) < 0:"),
    ),
    ("ldm/checkpoint/nesting.py", f"{TRUST}/test_pickles.py"): (
        ("if self._room < 0:", "if self._room is None:"),
    ),
    # The noise process.
    ("ldm/process/schedules.py", f"{PROCESS}/test_process.py"): (
        ("np.linspace(start**0.5, end**0.5, count) ** 2", "np.linspace(start, end, count)"),
        ("(1 - v_posterior) * betas * (1 - previous)", "(1 - v_posterior) * betas * (1 - cumprod)"),
        ("np.log(np.maximum(variance, 1e-20))", "np.log(np.maximum(variance, 1e-6))"),
        ("betas * np.sqrt(previous) / (1 - cumprod)", "betas * np.sqrt(cumprod) / (1 - cumprod)"),
        ("alphas_cumprod = np.cos(t / (1 + offset)", "alphas_cumprod = np.cos(t / (1 - offset)"),
    ),
    ("ldm/process/spacing.py", f"{PROCESS}/test_process.py"): (
        ("np.arange(0, num_timesteps, stride) + 1", "np.arange(0, num_timesteps, stride)"),
        (
            "(num_timesteps / steps)).astype(np.int64) - 1",
            "(num_timesteps / steps)).astype(int) - 2",
        ),
        ("np.sqrt(num_timesteps * 0.8), steps)", "np.sqrt(num_timesteps), steps)"),
    ),
    ("ldm/process/sigmas.py", f"{PROCESS}/test_sigmas.py"): (
        ("eta * sigma_next * (1.0 - (sigma_next", "eta * sigma * (1.0 - (sigma_next"),
        ("weights = weights * density(at)", "pass"),
        ("max(sigma_next**2 - added**2, 0.0)", "max(sigma_next**2 - added, 0.0)"),
        ("RHO = 7.0", "RHO = 5.0"),
        ("(len(nodes) + 1) // 2 + more)", "max(len(nodes) // 2, 1) + more)"),
    ),
    ("ldm/process/log_snr.py", f"{PROCESS}/test_process.py"): (
        ("np.sqrt(-np.expm1(2.0 * self.log_alpha(t)))", "np.sqrt(-np.expm1(self.log_alpha(t)))"),
        ("(t - 1.0 / self.num_timesteps) * self", "t * self"),
    ),
    ("ldm/process/prediction.py", f"{PROCESS}/test_process.py"): (
        ("return a * out + s * x", "return a * out - s * x"),
        ("return (x - s * out) / a", "return (x - s * out) / s"),
        ("return a * eps - s * x0", "return a * eps + s * x0"),
        ("return target(x0, eps, a, s, wanted)", "return out"),
    ),
    ("ldm/process/guidance.py", f"{PROCESS}/test_guidance.py"): (
        ("return out_uncond + self.scale", "return out_cond + self.scale"),
        ("return torch.cat([uncond, cond])", "return torch.cat([cond, uncond])"),
    ),
    ("ldm/process/classifier_guidance.py", f"{PROCESS}/test_classifier_guidance.py"): (
        ('"v": -s / a}', '"v": -s * a}'),
    ),
    ("ldm/process/gaussian.py", f"{PROCESS}/test_process.py"): (
        ("logvar.exp() - 1.0 - logvar)", "logvar.exp() - 1.0 + logvar)"),
    ),
    ("ldm/process/weighting.py", f"{PROCESS}/test_weighting.py {DIFFUSION}/test_losses.py"): (
        ("np.minimum(snr, self.gamma), snr", "np.maximum(snr, self.gamma), snr"),
        ("snr + self.sigma_data**-2", "snr + self.sigma_data**2"),
        ('"v": snr + 1}', '"v": snr}'),
        ("np.sqrt(cumprod) / (2.0 - cumprod)", "np.sqrt(cumprod) / (2.0 - 2.0 * cumprod)"),
        ("weights[0] = weights[1]", "weights[0] = 0.0"),
    ),
    ("ldm/process/density.py", f"{PROCESS}/test_density.py"): (
        ("torch.sigmoid(z) * num_timesteps", "torch.sigmoid(-z) * num_timesteps"),
        ("torch.randint(0, num_timesteps", "torch.randint(1, num_timesteps"),
    ),
    ("ldm/process/loss.py", f"{PROCESS}/test_loss.py"): (
        ("return 2 * torch.nn.functional.huber_loss", "return torch.nn.functional.huber_loss"),
    ),
    # Samplers.
    (
        "ldm/models/diffusion/discrete_sampler.py",
        f"{ORACLE}::test_ddim_keeps_the_mean_and_the_variance_of_the_data_at_every_eta",
    ): (
        ("(1.0 - a_prev - sigma_t**2).sqrt() * e", "(1.0 - a_prev).sqrt() * e"),
        ("x_prev = a_prev.sqrt() * x0 + direction", "x_prev = a_t.sqrt() * x0 + direction"),
    ),
    ("ldm/modules/diffusionmodules/util.py", f"{DIFFUSION}/test_ddim.py"): (
        ("np.append(alphacums[0],", "np.append(1.0,"),
    ),
    (
        "ldm/models/diffusion/discrete_sampler.py",
        f"{BEHAVIOUR}::test_ddim_encodes_to_the_alpha_of_the_index_given",
    ): (("entry = t.clamp(0", "entry = (t - 1).clamp(0"),),
    (
        "ldm/models/diffusion/discrete_sampler.py",
        f"{DIFFUSION}/test_sampler_overrides.py {DIFFUSION}/test_sampler_shape.py",
    ): (
        ("walk.guider if same else None", "None"),
        ("self.noise if walk is None else walk.noise", "self.noise"),
        ("self.version == _version(tensor)", "True"),
        ("int(share * self.steps) - 1", "int(share * self.steps)"),
    ),
    ("ldm/models/diffusion/ddim.py", f"{DIFFUSION}/test_ddim.py"): (
        ("self.time(i) if at_timesteps else i", "self.time(i)"),
        ("(1.0 / a_next - 1.0).sqrt() -", "(1.0 / a_next - 1.0).sqrt() +"),
    ),
    (
        "ldm/models/diffusion/dpm_solver/solver_steps.py",
        f"{DIFFUSION}/dpm_solver/test_dpm_solver.py",
    ): (
        ("phis = (phi_1, phi_2, phi_2 / u - 0.5)", "phis = (phi_1, phi_2, phi_2 / u)"),
        ("slope + r0 * change", "slope"),
        ("m + 0.5 * slope", "m"),
        ("r2 * slope), s2)", "slope), s2)"),
    ),
    (
        "ldm/models/diffusion/plms.py",
        f"{DIFFUSION}/test_plms.py {ORACLE}::test_plms_is_far_nearer_to_the_flow_than_ddim",
    ): (
        ("3: ((23, -16, 5), 12)", "3: ((23, -16, 4), 11)"),
        ("4: ((55, -59, 37, -9), 24)", "4: ((55, -59, 37, -8), 25)"),
        ("old_eps.append(eps)", "old_eps.insert(0, eps)"),
    ),
    (
        "ldm/models/diffusion/dpm_solver/sampler.py",
        f"{ORACLE}::test_dpm_solver_converges_with_an_order_well_above_one"
        f" {DIFFUSION}/test_reference.py::test_samplers_end_where_the_reference_ends",
    ): (
        ("(2.0 * (lam_s - lam_before))", "(lam_s - lam_before)"),
        ("index == 0 and total < FEW_STEPS", "index == 0 and total < 1"),
    ),
    ("ldm/models/diffusion/k_samplers.py", f"{DIFFUSION}/test_k_samplers.py"): (
        ("trial = y + (sigma_next - sigma) * slope", "trial = y + (sigma - sigma_next) * slope"),
        ("mean = (slope + denoise(trial, sigma_next)[1]) / 2", "mean = slope"),
        ("middle = (sigma * sigma_next) ** 0.5", "middle = (sigma + sigma_next) / 2"),
        ("step = plain(y, sigma, down)", "step = plain(y, sigma, sigma_next)"),
        ("ORDER = 4", "ORDER = 3"),
    ),
    ("ldm/models/diffusion/ancestral.py", f"{DIFFUSION}/test_ancestral.py"): (
        ("* (np.arange(self.steps) > 0)", "* (np.arange(self.steps) > -1)"),
    ),
    (
        "ldm/models/diffusion/sampler.py",
        f"{BEHAVIOUR}::test_a_batch_of_two_is_two_singles_with_a_generator_per_image"
        f" {BEHAVIOUR}::test_a_mask_keeps_what_it_covers_and_leaves_the_rest_to_the_model",
    ): (("x = known * mask + (1.0 - mask) * x", "x = x * mask + (1.0 - mask) * known"),),
    (
        "ldm/models/diffusion/denoiser.py",
        f"{BEHAVIOUR}::test_a_batch_of_two_is_two_singles_with_a_generator_per_image",
    ): (("draw = self.noise.randn(shape, x.device, x.dtype)", "draw = torch.randn_like(x)"),),
    # Networks.
    ("ldm/modules/attention.py", f"{NETWORKS}/test_attention.py"): (
        ("self.scale = dim_head**-0.5", "self.scale = inner**-0.5"),
        ("value, gate = self.proj(x)", "gate, value = self.proj(x)"),
        ("nn.GroupNorm(32, in_channels, eps=1e-6)", "nn.GroupNorm(32, in_channels, eps=1e-5)"),
    ),
    ("ldm/modules/attention_processors.py", f"{NETWORKS}/test_attention.py"): (
        ("found.masked_fill(~mask", "found.masked_fill(mask"),
    ),
    ("ldm/modules/diffusionmodules/util.py", f"{NETWORKS}/diffusionmodules/test_unet.py"): (
        ("torch.cat([angles.cos(), angles.sin()]", "torch.cat([angles.sin(), angles.cos()]"),
        ("* (1 - alphas / previous))", "* (1 - previous / alphas))"),
    ),
    ("ldm/modules/diffusionmodules/unet_blocks.py", f"{NETWORKS}/diffusionmodules/test_unet.py"): (
        ("norm(h) * (1 + scale) + shift", "norm(h) * scale + shift"),
        ("scale, shift = emb_out.chunk(2, dim=1)", "shift, scale = emb_out.chunk(2, dim=1)"),
    ),
    ("ldm/modules/diffusionmodules/unet_blocks.py", f"{NETWORKS}/test_attention.py"): (
        ("scale=q.shape[-1] ** -0.5)", "scale=q.shape[-2] ** -0.5)"),
    ),
    ("ldm/modules/diffusionmodules/openaimodel.py", f"{NETWORKS}/diffusionmodules/test_unet.py"): (
        ("joined = torch.cat([h, skip], dim=1)", "joined = torch.cat([skip, h], dim=1)"),
    ),
    ("ldm/modules/diffusionmodules/model.py", "tests/ldm/models/test_autoencoder.py"): (
        ("F.pad(x, (0, 1, 0, 1))", "F.pad(x, (1, 0, 1, 0))"),
        ("(num_groups, in_channels, eps=1e-6)", "(num_groups, in_channels)"),
    ),
    ("ldm/modules/token_attention.py", f"{NETWORKS}/test_token_transformer.py"): (
        (".tril(m - n)", ".tril()"),
        ("offset=values.shape[1] - x.shape[1]", "offset=1"),
    ),
    ("ldm/modules/diffusionmodules/unet_layout.py", f"{NETWORKS}/test_attention_forms.py"): (
        ("for name, value in options.items() if value", "for name, value in options.items()"),
    ),
    ("ldm/checkpoint/align.py", "tests/ldm/checkpoint/test_align.py"): (
        ("return weights or best", "return best"),
    ),
    ("ldm/checkpoint/known_names.py", "tests/ldm/checkpoint/test_known_names.py"): (
        (" or package in sys.stdlib_module_names", ""),
    ),
    ("ldm/checkpoint/names.py", "tests/ldm/checkpoint/test_names.py"): (
        ("place not in kept_parts", "True"),
    ),
    ("ldm/building.py", "tests/ldm/test_building.py"): (
        ("        _place.reset(token)", "        pass"),
    ),
    ("ldm/modules/distributions/distributions.py", "tests/ldm/models/test_autoencoder.py"): (
        ("logvar.clamp(-30.0, 20.0)", "logvar.clamp(-30.0, 30.0)"),
        ("else (0.5 * self.logvar).exp()", "else self.logvar.exp()"),
    ),
    ("ldm/modules/ema.py", f"{NETWORKS}/test_ema.py"): (
        ("(1 + updates) / (10 + updates)", "(1 + updates) / (11 + updates)"),
        ("(averages, weights, 1.0 - decay)", "(averages, weights, decay)"),
        ("self.num_updates += 1", "self.num_updates += 2"),
    ),
    # The hub and its training.
    ("ldm/models/diffusion/latent_diffusion.py", f"{DIFFUSION}/test_ddpm.py"): (
        ("z = (1.0 / self.scale_factor * z)", "z = (self.scale_factor * z)"),
    ),
    ("ldm/models/diffusion/ddpm.py", f"{DIFFUSION}/test_ddpm.py {HUBS}/test_hub_training.py"): (
        ("self.first_stage_key)[0].std()", "self.first_stage_key)[0].var()"),
        (
            "                averaged = self.shared_step(batch)[1]",
            "                averaged = figures",
        ),
        ("torch.random.fork_rng([", "contextlib.nullcontext(["),
        ("c = self.get_learned_conditioning(c)", "pass"),
    ),
    (
        "ldm/models/diffusion/hub_loss.py",
        f"{DIFFUSION}/test_losses.py {DIFFUSION}/test_ddpm.py",
    ): (
        ("/ logvar.exp() + logvar", "/ logvar.exp()"),
        ("+ self.original_elbo_weight * bound", "+ bound"),
        ("bound = (self.lvlb_weights[t] * per_sample)", "bound = (per_sample)"),
        ('prefix = "train" if self.training', 'prefix = "train" if not self.training'),
    ),
    ("ldm/models/diffusion/pixel_diffusion.py", f"{DIFFUSION}/test_ddpm.py"): (
        ("self.model_ema.restore(self.model.parameters())", "pass"),
    ),
    ("ldm/models/hub_training.py", f"{HUBS}/test_hub_training.py"): (
        ("self.average_once(self.global_step + 1)", "pass"),
    ),
    ("ldm/models/family_state.py", f"{HUBS}/test_family_state.py"): (
        ("        if strict:", "        if not strict:"),
    ),
    ("ldm/checkpoint/drawn_by.py", "tests/ldm/checkpoint/test_drawn_by.py"): (
        ("left += getattr(node, part, ())", "pass"),
        ("if changed & (members - ", "if changed & (set() - "),
    ),
    ("ldm/models/diffusion/forward_process.py", f"{DIFFUSION}/test_forward_process.py"): (
        ("return a * x_start + s * noise", "return a * x_start + s * s * noise"),
    ),
    (
        "ldm/models/two_sided_training.py",
        "tests/ldm/training/test_adversarial.py::test_it_steps_as_the_reference_does",
    ): (
        ("manual_backward(loss / self.accumulated_batches)", "manual_backward(loss)"),
        ("1) % self.accumulated_batches == 0", "1) % self.accumulated_batches == 1"),
    ),
    ("ldm/lr_scheduler.py", "tests/ldm/test_lr_scheduler.py"): (
        ("0.5 * (start - end) * (1.0 + math.cos(", "0.5 * (start - end) * (1.0 - math.cos("),
        ("bisect_left(self.cum_cycles, n) - 1", "bisect_left(self.cum_cycles, n + 1) - 1"),
        ("(length - step) / length)", "(length - step) / (length - warm))"),
    ),
    ("ldm/muon.py", "tests/ldm/test_muon.py"): (
        ("beta=b, alpha=c), x, beta=a)", "beta=c, alpha=b), x, beta=a)"),
        ("math.sqrt(max(ahead.shape))", "math.sqrt(min(ahead.shape))"),
        (
            'average.lerp_(p.grad, 1 - group["momentum"])',
            'average.lerp_(p.grad, group["momentum"])',
        ),
    ),
    ("ldm/rng.py", "tests/ldm/test_rng.py"): (
        ("[torch.randn(row, generator=g) for g", "[torch.randn(row) for g"),
    ),
    # Checkpoints and data.
    ("ldm/checkpoint/names.py", "tests/ldm/checkpoint/test_load.py"): (
        ('name.removeprefix("model.").replace(".", "")', 'name.removeprefix("model.")'),
    ),
    ("ldm/checkpoint/load.py", "tests/ldm/checkpoint/test_load.py"): (
        ("if component_of(name) == SCHEDULE and not own", "if False and not own"),
    ),
    ("ldm/checkpoint/diffusers/keymaps.py", "tests/ldm/checkpoint/diffusers/test_keymaps.py"): (
        ('"out_layers.3": "conv2"', '"out_layers.2": "conv2"'),
        ("decoder.up_blocks.{levels - 1 - level}", "decoder.up_blocks.{level}"),
        ("depths[::-1], attends[levels - 1 - level])", "depths, attends[levels - 1 - level])"),
    ),
    ("ldm/data/pictures.py", "tests/ldm/data/test_pictures.py"): (
        ("values /= 127.5", "values /= 128"),
    ),
    ("ldm/data/framing.py", "tests/ldm/data/test_framing.py"): (
        ("scale = min(width / w, height / h)", "scale = max(width / w, height / h)"),
        ("rng.random() < self.flip_p", "rng.random() > self.flip_p"),
    ),
    ("ldm/data/skipping.py", "tests/ldm/data/test_skipping.py"): (
        ("while math.gcd(step, length) > 1", "while math.gcd(step, length) > length"),
    ),
    # Pictures, the safety checker, devices.
    ("ldm/images/io.py", "tests/ldm/images/test_io.py"): (
        ("bad = (~x.isfinite()).flatten(1)", "bad = x.isinf().flatten(1)"),
        ("(scaled.round() if rounded else scaled)", "scaled.round()"),
        ("max(found, default=-1) + 1", "len(found)"),
        ("max(multiple, side - side % multiple)", "max(multiple, side)"),
    ),
    ("ldm/images/metadata.py", "tests/ldm/images/test_metadata.py"): (
        ("if read_negative != negative_prompt", "if False"),
        (r'r"[,:\n\r]", value', r'r"[,\n\r]", value'),
    ),
    ("ldm/images/entries.py", "tests/ldm/images/test_metadata.py"): (
        ("yield key, _unquote(quoted[1])", "yield key, _unquote(quoted[1]).strip()"),
    ),
    ("ldm/images/grid.py", "tests/ldm/images/test_grid.py"): (
        ("top = k // columns * cell_h", "top = k // lines * cell_h"),
    ),
    ("ldm/safety/checker.py", "tests/ldm/safety/test_checker.py"): (
        ("np.uint8(0), pictures)", "np.uint8(1), pictures)"),
        ("if score > 0)", "if score > 0.1)"),
        ("self._model.score(pictures if seen is None else seen)", "self._model.score(pictures)"),
    ),
    ("ldm/safety/dwt_dct.py", "tests/ldm/safety/test_dwt_dct.py"): (
        ("% BAND > BAND / 2", "% BAND >= BAND / 2"),
        ("blocks[:, 1:]", "blocks[:, :]"),
    ),
    ("ldm/safety/gentle_watermark.py", "tests/ldm/safety/test_gentle_watermark.py"): (
        ("(lambda marked: marked, *saved, *aim.copies)", "(lambda marked: marked, *saved)"),
        ("~_by_block(part, self.grid).all(", "~_by_block(part, self.grid).any("),
        ("free = _by_block(part, grid).all(", "free = _by_block(part, grid).any("),
    ),
    ("ldm/pipelines/unhonoured.py", "tests/ldm/pipelines/test_unhonoured.py"): (
        ('left.get("Variation seed") and', "False and"),
    ),
    ("ldm/safety/watermark.py", "tests/ldm/safety/test_watermark.py"): (
        ("picture[..., ::-1])", "picture)"),
        ("return text if text.isprintable() else None", "return text"),
    ),
    ("ldm/offload/rows.py", "tests/ldm/offload/test_rows.py"): (
        ("value.shape[0] == total", "value.shape[0] >= total"),
        ("gathered[part] = result", "gathered[: len(result)] = result"),
    ),
    ("ldm/offload/plan.py", "tests/ldm/offload/test_plan.py"): (
        ('put(table, "forward", self._look_up)', "pass"),
        ("elif stage not in self.settings.keeps:", "elif stage in UNET:"),
        ("other not in (stage, *beside)", "other not in (stage, *STAGES)"),
    ),
    ("ldm/offload/movers.py", "tests/ldm/offload/test_movers.py"): (
        ("if taken + size <= chunks[n])", "if taken <= chunks[n])"),
    ),
    # What a run is made of.
    ("ldm/settings/prompt_weights.py", "tests/ldm/settings/test_prompt_weights.py"): (
        ("[(text, weight / total) for", "[(text, weight) for"),
        ("if weight > 0]", "if weight >= 0]"),
    ),
    ("ldm/settings/samples.py", "tests/ldm/settings/test_samples.py"): (
        ("self.class_label[number % len(self.class_label)]", "self.class_label[0]"),
    ),
    ("ldm/pipelines/batches.py", f"{PIPELINES}/test_batches.py"): (
        ("self.iteration * self.per_iteration + self", "self.iteration * self.n_samples + self"),
        ("for start in range(0, total, n)", "for start in range(0, n, n)"),
    ),
    ("ldm/pipelines/masks.py", f"{PIPELINES}/test_masks.py"): (
        ("blocks.any(axis=(1, 3))", "blocks.all(axis=(1, 3))"),
        (">= HALF_GREY", "> HALF_GREY"),
    ),
    ("ldm/pipelines/initial_latents.py", f"{PIPELINES}/test_initial_latents.py"): (
        ("noise.randn((rows, *self.shape), self.device)\n            return", "return"),
        ("posterior.parameters.repeat(rows, 1, 1, 1)", "posterior.parameters"),
    ),
    ("ldm/pipelines/walks.py", f"{PIPELINES}/test_initial_latents.py"): (
        ("int(self.settings.strength * self", "round(self.settings.strength * self"),
        ("            return latents\n", "            pass\n"),
    ),
    ("ldm/pipelines/walks.py", f"{PIPELINES}/test_walks.py"): (
        ("(shares[:, None, None] * encoded).sum(0)", "encoded.mean(0)"),
    ),
    ("ldm/pipelines/postprocess.py", f"{PIPELINES}/test_postprocess.py"): (
        ("None if flagged else self._repainted", "self._repainted"),
    ),
    ("ldm/pipelines/inpainting.py", f"{PIPELINES}/test_inpainting.py"): (
        ("if state.i + 1 == state.total", "if state.i == state.total"),
    ),
    # What is written, and what comes from the network.
    ("ldm/atomic.py", "tests/ldm/test_atomic.py"): (
        ("if not is_folder(part):", "if False:"),
        ("or not _runs(pid)", "or pid > 0"),
        (".st_mtime > DAY", ".st_mtime > 0"),
        ('match["kind"] == "old" and', "False and"),
        ('if (pid, match["run"]) == (os.getpid(), _RUN):', "if False:"),
        ("if is_folder(path) and not path.is_symlink():", "if is_folder(path):"),
        ("_looked_into.add(folder)", "pass"),
        ("        clear(folder)\n", "        pass\n"),
        ("path.name[:50]", "path.name"),
    ),
    ("ldm/checkpoint/download/connection.py", "tests/trust/test_downloads.py"): (
        ("if source.token and _origin(url) ==", "if source.token or _origin(url) =="),
        ('== ("https", "http"):', '== ("https", "ftp"):'),
        ('parts.scheme in ("http", "https")', "parts.scheme"),
        ('or "@" in parts.netloc', "or False"),
        ("range(REDIRECTS + 1)", "range(REDIRECTS * 1000)"),
    ),
    ("ldm/checkpoint/download/answer.py", "tests/trust/test_downloads.py"): (
        ("if first != offset or", "if"),
        ("if length not in (None, last - first + 1):", "if False:"),
        ("if source.size not in (None, total):", "if False:"),
        ('if packed not in ("identity", ""):', "if False:"),
        ("if len(said) > 1 or", "if"),
    ),
    ("ldm/checkpoint/download/transfer.py", "tests/trust/test_downloads.py"): (
        ("if found != self._digest:", "if False:"),
        ('headers.get("ETag") == self._etag is not None', "True"),
        ("if tag.startswith('\"') else None", ""),
        ("or not self._ends)", "or False)"),
        ("if self._size() > best else", "if self._size() > 0 else"),
    ),
    ("ldm/checkpoint/download/fetch.py", "tests/trust/test_downloads.py"): (
        ("LOCK_EX | fcntl.LOCK_NB", "LOCK_SH | fcntl.LOCK_NB"),
        ("if not exists(target):  # another", "if True:  # another"),
    ),
    # The web pages: what a visitor may do.
    ("optimizedSD/web/hosts.py", f"{WEB}/test_hosts.py"): (
        ("if any(same == host.lower().removesuffix(port)", "if any(same.startswith(host.lower())"),
        ("(self.any_address and _is_address(name))", "_is_address(name)"),
    ),
    ("optimizedSD/web/gate.py", PAGES): (
        ("if len(named) != 1 or not all(", "if not all("),
        ("if foreign or _led_from", "if _led_from"),
        ("elif reads and _READ.fullmatch(path)", "elif reads and _READ.match(path)"),
        ('if kind != "application/json"', 'if kind == "text/html"'),
    ),
    ("optimizedSD/web/bodies.py", f"{WEB}/test_gate.py"): (("if read > most:", "if read < 0:"),),
    ("optimizedSD/web/gate.py", f"{WEB}/test_gate.py"): (
        ("                self.left(session)\n", "                pass\n"),
        ('inner["query_string"] = b""', "pass"),
        ('if each.startswith("access-control-")', "if each == 0"),
    ),
    ("optimizedSD/web/calls.py", PAGES): (
        ("if function.queued != queued", "if function.queued < queued"),
        ("abs(value) <= _LARGEST_NUMBER", "True"),
        ("or len(data) != len(function.inputs)", "or len(data) < len(function.inputs)"),
    ),
    ("optimizedSD/web/uploads.py", PAGES): (
        ('any(part.startswith(".") for part in parts)', "False"),
        ("if real.suffix.lower() not in _SHOWN or not", "if not"),
        ("    real = real_path(path)", "    real = Path(path)"),
        ("if kind is None:", "if kind == 0:"),
    ),
    ("optimizedSD/web/uploads.py", f"{WEB}/test_uploads.py"): (
        ("left > self._most and path != newest", "left > self._most"),
        ("folder == str(self.folder) and", ""),
    ),
    ("optimizedSD/web/line.py", f"{WEB}/test_line.py"): (
        ("if len(self._places) > self.longest", "if len(self._places) >= self.longest"),
        (">= self.share:", "> self.share:"),
    ),
    ("optimizedSD/web/background.py", f"{WEB}/test_background.py"): (
        ("raise self._error", "pass"),
    ),
    ("optimizedSD/web/pictures.py", f"{WEB}/test_pictures.py"): (
        ("None if stored.has_transparency_data else lost_as_rgb(stored)", "lost_as_rgb(stored)"),
    ),
    ("optimizedSD/web/worker.py", f"{WEB}/test_worker.py"): (
        ("tuple(dict.fromkeys(found))", "tuple(found)"),
        ("            self.line.wait(place,", "            (lambda *_: None)(place,"),
        ("if state.seconds > self.limits.seconds", "if state.seconds > 10**6"),
        ("lambda record: record.thread == thread", "lambda record: True"),
    ),
    ("optimizedSD/web/limits.py", f"{WEB}/test_limits.py"): (
        ("if max(width, height) > self.side", "if min(width, height) > self.side"),
        ("settings.n_iter * prompts > self.pictures", "settings.n_iter > self.pictures"),
        ("if parts > PROMPT_PARTS", "if parts > 10**6"),
    ),
    ("ldm/adapters/control/nets.py", "tests/ldm/adapters/control/test_nets.py"): (
        ("x = x[:, : network.in_channels]", "x = x[:, -network.in_channels :]"),
        (
            "self._conditional, self._pooled = self._conditional or pooled, pooled",
            "self._conditional, self._pooled = False, pooled",
        ),
    ),
    ("ldm/adapters/control/features.py", "tests/ldm/adapters/control/test_features.py"): (
        ("place += level.res_blocks", "place += level.res_blocks - 1"),
    ),
    ("ldm/adapters/control/hints.py", "tests/ldm/adapters/control/test_nets.py"): (
        ("return made[list(pictures)]", "return made[: len(pictures)]"),
    ),
    ("ldm/adapters/control/drawn.py", "tests/ldm/adapters/control/test_parts.py"): (
        ("key = key, part_of_call()", "key = key, None"),
    ),
    ("ldm/modules/attention_control/parts.py", "tests/ldm/adapters/control/test_parts.py"): (
        ("return slice(*rows), slice(*columns)", "return slice(*columns), slice(*rows)"),
    ),
    ("ldm/modules/attention_control/moments.py", "tests/ldm/adapters/control/test_plans.py"): (
        ("return present if len(present) == count else range(count)", "return range(count)"),
    ),
    ("cldm/cldm.py", "tests/cldm"): (("if not first:", "if True:"),),
    ("ldm/adapters/ip_adapter/adapter.py", "tests/ldm/adapters/ip_adapter"): (
        (
            "for half in (unet.input_blocks, unet.output_blocks, unet.middle_block)",
            "for half in (unet.input_blocks, unet.middle_block, unet.output_blocks)",
        ),
        ('0 if row.part == "uncond" else 1 + own for row', "1 + own for row"),
        ("self._held = None if learns else held", "self._held = held"),
    ),
    ("ldm/adapters/ip_adapter/projections.py", "tests/ldm/adapters/ip_adapter/test_parity.py"): (
        ("return self.norm(tokens)", "return tokens"),
    ),
    ("ldm/adapters/ip_adapter/encoders.py", "tests/ldm/adapters/ip_adapter/test_parity.py"): (
        ("found.hidden_states[-2]", "found.hidden_states[-1]"),
    ),
    ("ldm/adapters/gligen/adapter.py", "tests/ldm/adapters/gligen"): (
        (
            "number >= int(self.scheduled_sampling * total)",
            "number >= self.scheduled_sampling * total",
        ),
    ),
    ("ldm/adapters/gligen/layers.py", "tests/ldm/adapters/gligen"): (
        (
            "torch.stack([angles.sin(), angles.cos()], dim=-2)",
            "torch.stack([angles.sin(), angles.cos()], dim=-1)",
        ),
    ),
    ("ldm/adapters/sketch/guidance.py", "tests/ldm/adapters/sketch"): (
        ("* went / steep", "* steep"),
    ),
    ("ldm/adapters/lora/deltas.py", "tests/ldm/adapters/lora"): (
        (
            "return self._product(widened(t)).reshape(shape) * self.factor",
            "return self._product(widened(t)).reshape(shape)",
        ),
    ),
    ("ldm/adapters/lora/merged.py", "tests/ldm/adapters/lora"): (
        ("self.module._parameters[self.entry] = self.original", "pass"),
        ("if known or len(self.shares) == 1:", "if len(self.shares) == 1:"),
    ),
    ("ldm/adapters/lora/numbered.py", "tests/ldm/adapters/lora"): (
        (
            'ways = ("down_blocks", "up_blocks", "mid_block")',
            'ways = ("down_blocks", "mid_block", "up_blocks")',
        ),
    ),
    ("ldm/adapters/lora/alphas.py", "tests/ldm/adapters/lora"): (
        (
            "return alpha, alpha / (math.sqrt(rank) if stretched else rank)",
            "return alpha, alpha / rank",
        ),
    ),
    ("ldm/adapters/lora/train.py", "tests/ldm/adapters/lora"): (
        ("parameter.requires_grad_(False)", "pass"),
    ),
    (
        "ldm/adapters/textual_inversion/vocabulary.py",
        "tests/ldm/adapters/textual_inversion/test_attaching.py",
    ): (("if word.casefold() in map(str.casefold, other.words):", "if word in other.words:"),),
    (
        "ldm/adapters/textual_inversion/words.py",
        "tests/ldm/adapters/textual_inversion/test_attaching.py",
    ): (
        (
            "self.words: Sequence[str] = sorted(words, key=len, reverse=True)",
            "self.words: Sequence[str] = sorted(words, key=len)",
        ),
    ),
    (
        "ldm/adapters/textual_inversion/picture.py",
        "tests/ldm/adapters/textual_inversion/test_reading.py",
    ): (("numbers[n] = state % 255 & LOW", "numbers[n] = state % 256 & LOW"),),
    ("ldm/models/diffusion/lcm.py", "tests/ldm/models/diffusion/test_lcm.py"): (
        ("end = c_skip * x + c_out * x0  # f(x, t)", "end = x0"),
    ),
    ("ldm/pipelines/adapting.py", "tests/ldm/pipelines/test_adapting.py"): (
        ("handle.detach()", "pass"),
    ),
    ("ldm/pipelines/adapter_files.py", "tests/ldm/pipelines/test_adapter_files.py"): (
        (
            'if not wanted or ".." in wanted or PureWindowsPath(name).is_absolute():',
            "if not wanted:",
        ),
    ),
    ("ldm/prompts/schedule.py", "tests/ldm/prompts/test_schedule.py"): (
        ("stack[-1].sound = len(stack) == 1", "stack[-1].sound = True"),
    ),
    ("ldm/prompts/emphasis.py", "tests/ldm/prompts/test_emphasis.py"): (
        ("STRONGER, WEAKER = 1.1, 1 / 1.1", "STRONGER, WEAKER = 1.1, 0.9"),
        ("if len(open_brackets) > PROMPT_NESTING:", "if len(open_brackets) < 0:"),
    ),
    ("ldm/prompts/rows.py", "tests/ldm/prompts/test_a1111_encoder.py"): (
        ("self.size - comma <= BACKTRACK:", "self.size - comma < BACKTRACK:"),
    ),
    ("ldm/prompts/a1111_encoder.py", "tests/ldm/prompts/test_a1111_encoder.py"): (
        ("return weighted * (before / after)", "return weighted"),
    ),
    ("ldm/prompts/compel_encoder.py", "tests/ldm/prompts/test_compel.py"): (
        ("mask[:, [0, -1]] = True", "mask[:, [0]] = True"),
    ),
    ("ldm/prompts/encoding.py", "tests/ldm/prompts/test_guidance.py"): (
        ("if step <= end), last)", "if step < end), last)"),
    ),
    ("ldm/prompts/guidance.py", "tests/ldm/prompts/test_guidance.py"): (
        ("row[n].weight if n < len(row) else 0.0", "row[n].weight if n < len(row) else 1.0"),
    ),
    ("ldm/hints/canny.py", "tests/ldm/hints/test_lines.py"): (
        (
            "level = (strength > at(0, -1)) & (strength >= at(0, 1))",
            "level = (strength >= at(0, -1)) & (strength > at(0, 1))",
        ),
    ),
    ("ldm/hints/normals.py", "tests/ldm/hints/test_tones.py"): (
        (
            "facing = np.stack([across, down, np.ones_like(across)], axis=2)",
            "facing = np.stack([-across, down, np.ones_like(across)], axis=2)",
        ),
    ),
    ("ldm/hints/learned.py", "tests/ldm/hints/test_learned.py"): (
        ("values = 1 / np.maximum(values, 1e-3)", "values = np.maximum(values, 1e-3)"),
    ),
    ("ldm/training/adapters/hub.py", "tests/ldm/training/adapters/test_hub.py"): (
        ("self.requires_grad_(False)", "self.requires_grad_(True)"),
        ('if before.get("sha256") != self.base.sha256:', "if False:"),
        ('if name != "adapter":', 'if name == "adapter":'),
    ),
    ("ldm/training/adapters/files.py", "tests/ldm/training/adapters/test_hub.py"): (
        ("if every and step and step % every == 0", "if every and step and step % every == 1"),
    ),
    (
        "ldm/models/diffusion/prior_preservation.py",
        "tests/ldm/training/adapters/test_dreambooth.py",
    ): (
        ("total = loss + self.prior_weight * of_class", "total = loss + of_class"),
        ("PerImageNoise([pictures.seed + number])", "PerImageNoise([pictures.seed])"),
    ),
    (
        "ldm/training/adapters/textual_inversion.py",
        "tests/ldm/training/adapters/test_textual_inversion.py",
    ): (("i * len(begin) // vectors", "0 * len(begin) // vectors"),),
    ("ldm/checkpoint/found_config.py", "tests/trust/test_trusted_configs.py"): (
        ('if key == "base_config" and isinstance(value, str):', "if False:"),
    ),
    ("ldm/offload/home.py", "tests/ldm/offload/test_home.py"): (("plan.detach()", "pass"),),
    ("ldm/pipelines/adapter_plan.py", "tests/test_adapters.py"): (
        ('if settings.prompt_syntax == "compel":', 'if settings.prompt_syntax == "none":'),
    ),
    ("ldm/pipelines/adapting.py", "tests/test_adapters.py"): (
        ("if isinstance(network, StyleControl) == (wish.kind == STYLE):", "if wish:"),
    ),
    ("ldm/pipelines/adapter_entries.py", "tests/test_adapters.py"): (
        ("entries[ENCODER] = settings.image_encoder", "entries[ENCODER] = '.'"),
    ),
    ("ldm/prompts/looks.py", "tests/ldm/pipelines/test_prompting.py"): (
        ('if syntax == "compel":', 'if syntax == "a1111":'),
    ),
    ("ldm/training/adapters/ip_adapter.py", "tests/ldm/training/adapters/test_ip_adapter.py"): (
        ("hidden = self.weights.image_proj.hidden", "hidden = False"),
    ),
    ("ldm/adapters/lora/train.py", "tests/ldm/adapters/lora/test_train.py"): (
        ("if wanted.search(place.dotted)]", "if place.dotted]"),
    ),
    ("ldm/processor.py", "tests/ldm/test_processor.py"): (
        ("return found if share is None else max(1, min(found, int(share)))", "return found"),
    ),
    ("ldm/modules/int8.py", "tests/ldm/modules/test_int8.py"): (
        ("quantized_activation(rows, (1,))", "quantized_activation(rows, (0, 1))"),
    ),
    ("ldm/pipelines/precision.py", "tests/ldm/pipelines/test_precision.py"): (
        ("if gain <= WORTH_IT:", "if gain <= 1.0:"),
        ("weight.data = own", "pass"),
    ),
    ("ldm/programs/start.py", "tests/ldm/programs/test_start.py"): (
        ("if not ours or watched or len(threads) > 1:", "if False:"),
    ),
    ("ldm/models/diffusion/k_dpmpp.py", "tests/ldm/models/diffusion/test_k_dpmpp.py"): (
        (
            "return -math.expm1(-longer) * (x0 - x0_before) / (2.0 * r)",
            "return -math.expm1(-longer) * (x0 - x0_before) / r",
        ),
    ),
    ("ldm/models/diffusion/unipc.py", "tests/ldm/models/diffusion/test_unipc.py"): (
        ("y = y + taken.pop().correction(x0)", "taken.pop()"),
    ),
    ("ldm/models/diffusion/tcd.py", "tests/parity/test_more_samplers.py"): (
        ("(1.0 - ddim_eta) * t", "t"),
    ),
    ("ldm/settings/samplers.py", "tests/ldm/pipelines/test_infotext.py"): (
        ('if not own or entry.form == (form or "") or not entry.form', "if True"),
    ),
    ("ldm/shortcuts/reuse.py", "tests/ldm/shortcuts/test_reuse.py"): (
        ("each is None or each[0] != self._period", "each is None"),
        ("in_walk and not ASIDE.get() and not torch.is_grad_enabled()", "in_walk"),
        ("not ASIDE.get() and not torch.is_grad_enabled()", "not torch.is_grad_enabled()"),
        ("and not torch.is_grad_enabled()", ""),
    ),
    ("ldm/process/token_merging.py", "tests/ldm/process/test_token_merging.py"): (
        ("descending=True", "descending=False"),
        ("include_self=True", "include_self=False"),
    ),
    ("ldm/shortcuts/guidance.py", "tests/ldm/shortcuts/test_guidance.py"): (
        ("spread(cond) / spread(guided)", "spread(guided) / spread(cond)"),
        ("return inner if self.guides() else", "return inner if True else"),
    ),
    ("ldm/shortcuts/freeu.py", "tests/ldm/shortcuts/test_freeu.py"): (
        ("{0, x.shape[-2] - 1}", "{0}"),
        ("(level.res_blocks + 1)", "level.res_blocks"),
    ),
    ("ldm/models/tiny_decoder.py", "tests/ldm/shortcuts/test_decoder.py"): (
        ("* 2.0 - 1.0", "* 1.0"),
        ("z / self.scale", "z * self.scale"),
    ),
    ("ldm/models/diffusion/ddim.py", "tests/ldm/shortcuts/test_zero_snr.py"): (
        ("if self.table.alphas[index] == 0.0:", "if False:"),
    ),
    ("ldm/shortcuts/turns.py", "tests/ldm/shortcuts/test_turns.py"): (
        ("return in_rows(call, rows,", "return in_rows(call, None,"),
    ),
    ("ldm/shortcuts/merging.py", "tests/ldm/shortcuts/test_merging.py"): (
        ("call = 2 * (moment.number or 0) + moment.evaluation", "call = 0"),
        ("site.number * by_layer", "by_layer"),
        ("if site.rate == rate}", "}"),
    ),
    ("ldm/shortcuts/zero_snr.py", "tests/ldm/shortcuts/test_zero_snr.py"): (
        ("1.0 - whole / before", "whole / before"),
        ('if model.parameterization != "v":', "if False:"),
    ),
    ("ldm/pipelines/shortcutting.py", f"{PIPELINES}/test_shortcutting.py"): (
        ("0 if per_image else settings.seed", "settings.seed"),
        ("            sampler.around = around", "            pass"),
        ("if due or (has_uncond and not knows_uncond):", "if due:"),
    ),
    ("ldm/pipelines/speed.py", f"{PIPELINES}/test_speed.py"): (
        ("    if not whole:", "    if False:"),
        ("stack.callback(compile_model(model))", "compile_model(model)"),
    ),
    ("ldm/models/diffusion/restart.py", f"{DIFFUSION}/test_restart.py"): (
        ("(steps // 4, 2)", "(steps // 4, 1)"),
        ("parts = [self.sigmas[: turn + 1],", "parts = [self.sigmas[:turn],"),
    ),
    ("ldm/kernels/prepare.py", "tests/ldm/kernels/test_prepare.py"): (
        ("if layer.processor is sdpa:", "if True:"),
        ('if "forward" in vars(layer):', "if False:"),
        ("needed * ROOM <= free", "needed <= free"),
        ("weight.forget()", "pass"),
    ),
    ("ldm/kernels/compiled.py", "tests/ldm/kernels/test_compiled.py"): (
        ("part._compiled_call_impl = own", "pass"),
    ),
    ("ldm/kernels/head_width.py", "tests/ldm/kernels/test_head_width.py"): (
        ("d % 8 == 0 and capability", "capability"),
        ("if d <= WIDEST_CUDNN:", "if True:"),
        ("0 if capability >= HOPPER else 1", "0"),
    ),
    ("ldm/kernels/packed.py", "tests/ldm/kernels/test_prepare.py"): (
        ("weight._version == self._version", "True"),
        ("weight.data_ptr() == self._seen.data_ptr()", "True"),
    ),
    ("ldm/kernels/layers.py", "tests/ldm/kernels/test_prepare.py"): (
        ("not layer.training", "True"),
        ("out.contiguous() if", "out if"),
    ),
    ("ldm/kernels/winograd.py", "tests/ldm/kernels/test_winograd.py"): (
        ("torch.sub(d2, d1, out=out[2])", "torch.sub(d1, d2, out=out[2])"),
        ("(0.5, -0.5, 0.5), (0, 0, 1)", "(0.5, 0.5, 0.5), (0, 0, 1)"),
        ("not (x.shape[2] % 2 or x.shape[3] % 2)", "not x.shape[2] % 2"),
        ("yield slice(image, image + count), first,", "yield slice(image, image + 1), first,"),
    ),
    ("ldm/adapters/fitting.py", "tests/ldm/adapters/test_fitting.py"): (
        ("if made != layers:", "if made == layers:"),
        ('return "" if made == own else', 'return "" if made != own else'),
    ),
    ("ldm/pipelines/recorded_controls.py", "tests/ldm/pipelines/test_recorded_controls.py"): (
        ("max(known, key=len", "min(known, key=len"),
    ),
    ("ldm/pipelines/shown_hints.py", "tests/ldm/pipelines/test_adapting.py"): (
        ("if picture.size != self.whole:", "if picture.size == self.whole:"),
    ),
    ("apps/studio/controls.py", "tests/apps/studio/test_controls.py"): (
        ("in wanted and not each.fault)", "in wanted)"),
    ),
    ("apps/studio/controlling.py", "tests/apps/studio/test_controlling.py"): (
        ('pictures["control"] or own', 'pictures["control"]'),
    ),
    ("apps/studio/control_recipes.py", "tests/apps/studio/test_control_recipes.py"): (
        ("full_hash(network.path) != each.digits", "full_hash(network.path) == each.digits"),
    ),
    ("ldm/prompts/wildcards.py", "tests/ldm/prompts/test_wildcards.py"): (
        ("if len(alone) == 1 and isinstance(alone[0], Named):", "if False:"),
        ("self.left -= draws", "pass"),
        ('self.fraction(f"{place}/{k}") ** (1 / weight)', 'self.fraction(f"{place}/{k}")'),
        ('f"{place}.{nodes}"', "place"),
        ('return _Draw(lists, f"{seed}:{part}")', 'return _Draw(lists, f"{seed}")'),
    ),
    ("ldm/prompts/wildcard_files.py", "tests/ldm/prompts/test_wildcard_files.py"): (
        ("if name in above:", "if False:"),
        ('if not line or line.startswith("#"):', "if not line:"),
        ("lines.setdefault(template, weight)", "lines[(template, each)] = weight"),
    ),
    ("ldm/pipelines/wildcards.py", "tests/ldm/pipelines/test_wildcards.py"): (
        (
            "return settings.seed if settings.is_varied else settings.seed + index",
            "return settings.seed + index",
        ),
        (
            "settings = settled(settings, own, seed_of(settings, place.index))",
            "settings = settled(settings, own, settings.seed)",
        ),
        ('bare = replace(self.settings, **dict.fromkeys(held, ""))', "bare = self.settings"),
    ),
    ("ldm/pipelines/batches.py", "tests/ldm/pipelines/test_wildcards.py"): (
        ("negatives=self.negatives[first : part.stop],", ""),
    ),
    ("ldm/pipelines/prompting.py", "tests/ldm/pipelines/test_wildcards.py"): (
        (
            "texts = negatives or [settings.negative_prompt] * len(conds)",
            "texts = [settings.negative_prompt] * len(conds)",
        ),
    ),
    ("apps/server/service.py", "tests/apps/server/test_service.py"): (
        ("if settings.wildcards is None:\n            return", "if True:\n            return"),
    ),
    ("apps/studio/form.py", "tests/apps/studio/test_form.py"): (
        ("self.studio.wildcards if switched is True else None", "switched or None"),
    ),
    ("apps/server/sdapi/faces.py", "tests/apps/server/sdapi/test_faces.py"): (
        ("if len(begun) == 1:", "if False:"),
        ("    if not found:", "    if False:"),
    ),
    ("ldm/pipelines/enlarging.py", "tests/ldm/pipelines/test_enlarging.py"): (
        ("if threading.get_ident() == self._thread:", "if True:"),
        ("here.check()\n        observer(tiles)", "observer(tiles)"),
    ),
    ("apps/studio/tabs/enlarge.py", "tests/apps/studio/test_enlarge_tab.py"): (
        ("if carried.synthetic:", "if False:"),
        ("if self.opacity is None or picture.flagged:", "if True:"),
    ),
    ("ldm/images/opening.py", "tests/ldm/pipelines/test_init_image.py"): (
        ('";16" in str(tile[3])', '";17" in str(tile[3])'),
    ),
    ("ldm/pipelines/networks.py", "tests/ldm/pipelines/test_networks.py"): (
        ("            check_file(detector)", "            pass"),
        ("        _check_decoder(settings.decoder)", "        pass"),
    ),
    ("apps/studio/tabs/edit.py", "tests/apps/studio/test_page.py"): (
        ("speaker=handlers.speaker", "speaker=form.speaker"),
    ),
    ("ldm/offload/pieces.py", "tests/ldm/offload/test_stages.py"): (
        ("weights.pop(id(table.weight), None)", "pass"),
    ),
    ("ldm/offload/stages.py", "tests/ldm/offload/test_stages.py"): (
        ("and held[id(module.weight)] == 1", ""),
        ("and module.weight.nbytes >= LARGE_TABLE", ""),
    ),
    ("benchmarks/sampling_cpp.py", "tests/benchmarks/test_sampling_cpp.py"): (
        ("cpp.sd_set_progress_callback(None, None)", "pass"),
        ("if len(ticks) != steps + 1:", "if False:"),
    ),
    ("ldm/kernels/element_type.py", "tests/ldm/kernels/test_element_type.py"): (
        ("x.is_floating_point() and x.dtype != torch.float64", "x.is_floating_point()"),
        ("return dtype == torch.float32", "return True"),
    ),
    ("ldm/pipelines/arithmetic.py", "tests/ldm/pipelines/test_pipeline_kernels.py"): (
        ("if half is not None and not computes_in(half):", "if False:"),
        ("(self.model, half, packed)", "(self.model, half)"),
    ),
    ("ldm/kernels/blocked.py", "tests/ldm/kernels/test_blocked.py"): (
        ("tensors[0].shape[2] * tensors[1].shape[2] >= LEAST_SCORES", "True"),
        ("k[:, m:, d] = SHUT / scale", "pass"),
        ("q[..., d] = 1", "pass"),
        ("-d % LANES, 0, lacking", "0, 0, lacking"),
        ("computed_type(x) == torch.bfloat16", "True"),
        ("mask is not None or", ""),
        ("range(0, n, rows)", "range(0, n - 1, rows)"),
        ("range(0, heads, together)", "range(0, 1, together)"),
    ),
    ("ldm/kernels/pages.py", "tests/ldm/kernels/test_pages.py"): (
        ("page & _FROM_FILE or not page & _IN_MEMORY", "True"),
    ),
    ("ldm/kernels/graphs.py", "tests/ldm/kernels/test_graphs.py"): (
        ("tuple(out.clone() for out in self.capture.out)", "self.capture.out"),
        ("self._recorded.clear()", "pass"),
        ("        does = division.does\n", "        pass\n"),
        ("return work, key_of(inputs), _autocast", "return work, _autocast"),
    ),
    ("ldm/kernels/deferred.py", "tests/ldm/kernels/test_deferred.py"): (
        ("each.shape == self.like.shape", "True"),
        (
            "for k, made in enumerate(self._made) if made() is not None",
            "for k, made in enumerate(self._made)",
        ),
    ),
    ("ldm/pipelines/overlapping.py", "tests/ldm/pipelines/test_overlapping.py"): (
        ("        x.record_stream(self._stream)\n", ""),
        ("            out.record_stream(current)\n", ""),
        ("            on_failure()\n", ""),
    ),
    ("ldm/kernels/card.py", "tests/ldm/kernels/test_card.py"): (
        ("in self.on and not torch.is_grad_enabled()", "in self.on"),
    ),
    ("ldm/rng.py", "tests/ldm/models/diffusion/test_sampler_waits.py"): (
        (".pin_memory().to(device, non_blocking=True)", ".to(device)"),
    ),
    # Many pictures: drawn together, by files of jobs, by a server; training on many machines.
    ("ldm/jobs/base.py", "tests/ldm/jobs/test_store.py"): (
        ('not part or part.startswith(".")', "not part"),
        ("bad = _FORBIDDEN.search(name) or any(", "bad = any("),
    ),
    ("ldm/jobs/local_store.py", "tests/ldm/jobs/test_store.py"): (
        ("            sync(self.path)\n", "            pass\n"),
        ("os.O_CREAT | os.O_EXCL | os.O_APPEND", "os.O_CREAT | os.O_APPEND"),
        ("os.open(name, how | _NO_LINK)", "os.open(name, how)"),
        ("and not _within(path.parent, self.folder)", "and False"),
        ("os.ftruncate(self._file, self._length)", "pass"),
    ),
    ("ldm/jobs/store.py", "tests/ldm/jobs/test_store.py"): (
        ("    _refuse_credentials(kind, text)\n", ""),
    ),
    ("ldm/jobs/object_store.py", "tests/ldm/jobs/test_object_store.py"): (
        ('text = text.replace(value, "***")', "pass"),
        ("len(self._lines) >= LINES or ", ""),
    ),
    ("ldm/jobs/records.py", "tests/ldm/jobs/test_records.py"): (
        ("numbers[1:] != numbers[:-1], True", "numbers[1:] != numbers[:-1], False"),
        ("place = self._text(_safe(record.name))", "place = self._text(record.name)"),
        ("if type(value) not in _KINDS[name]:", "if False:"),
    ),
    ("ldm/jobs/manifest.py", "tests/ldm/jobs/test_manifest.py"): (
        ("key=lambda match: (int(match[1]), match[0])", "key=lambda match: match[0]"),
        ('if not line.endswith(b"\\n"):', "if False:"),
        ('rf"{plain(worker)}-[0-9a-f]{{12}}(?:-\\d+)?"', 'rf"{plain(worker)}-[A-Za-z0-9_-]+"'),
    ),
    ("ldm/jobs/manifest.py", "tests/ldm/jobs/test_outputs.py"): (
        ("return packing.records(missing) if missing else last, last", "return last, last"),
    ),
    ("ldm/jobs/shard_output.py", "tests/ldm/jobs/test_kills.py"): (
        (
            "self.writer.append(*records)\n        self.writer.flush()\n        draft.keep()\n",
            "draft.keep()\n        self.writer.append(*records)\n        self.writer.flush()\n",
        ),
    ),
    ("ldm/jobs/samples.py", "tests/ldm/jobs/test_verify.py"): (
        ("elif hashlib.sha256(data).hexdigest() != record.sha256:", "elif False:"),
    ),
    ("ldm/jobs/verify.py", "tests/ldm/jobs/test_verify.py"): (
        ("    _refuse_conflicts(places, records)\n", ""),
        (
            "        damages += _whole_shard(group, found)\n",
            "        damages += [each for each in found if each]\n",
        ),
        ("number in damages or all(", "all("),
    ),
    ("ldm/jobs/job.py", "tests/ldm/jobs/test_lines.py"): (
        ('"model": self.model,', '"model": "",'),
        ('"files": dict(self.files),', '"files": {},'),
        ("if k not in _HOW | _FILES | NOTES}", "if k not in _FILES | NOTES}"),
        ("if k not in _HOW | _FILES | NOTES}", "if k not in _HOW | _FILES}"),
    ),
    ("ldm/jobs/lines.py", "tests/ldm/jobs/test_lines.py"): (
        ("seed_of(settings, k)", "settings.seed"),
        ('first = values.pop("seed", self.seed + number)', 'first = values.pop("seed", self.seed)'),
        ("os.path.join(self.folder, path)", "path"),
    ),
    ("ldm/jobs/files.py", "tests/ldm/jobs/test_files.py"): (
        ("            number += count\n", "            number += 1\n"),
    ),
    ("ldm/jobs/rows.py", "tests/ldm/jobs/test_rows.py"): (
        ("if len(text) > LONGEST_LINE:", "if len(text) < 0:"),
        ("(ValueError, RecursionError) as error", "ValueError as error"),
    ),
    ("ldm/jobs/columns.py", "tests/ldm/jobs/test_columns.py"): (
        ("if option.name in seen:", "if name in seen:"),
    ),
    ("ldm/jobs/buckets.py", "tests/ldm/jobs/test_buckets.py"): (
        ("left += group[whole:]", "left = group[whole:]"),
        ("if fresh and not crowded else", "if fresh else"),
    ),
    ("ldm/jobs/run.py", "tests/ldm/jobs/test_run.py"): (
        ("return job.number in failed or done.digest", "return done.digest"),
        ("if found.changed and not settings.redraw:", "if False:"),
        ("if there is None or (there.error and there.error != error):", "if True:"),
        ("            yield job\n    _check_state(plan)", "            yield job"),
    ),
    ("ldm/jobs/worker.py", "tests/ldm/jobs/test_worker.py"): (
        ("self._shrink(len(left.pairs))", "pass"),
        ("parts += [left.pairs[half:], left.pairs[:half]]", "parts += [left.pairs[half:]]"),
        ("if self._in_a_row >= MOST_IN_A_ROW:", "if False:"),
        ("torch.set_num_threads(count)", "pass"),
        ("torch.set_num_threads(self._threads_before)", "pass"),
    ),
    ("ldm/jobs/progress.py", "tests/ldm/jobs/test_progress.py"): (
        ('found = self.path.split("?")[0] == "/metrics"', "found = True"),
        ("since = self._times[0] if full else self._began", "since = self._began"),
    ),
    ("ldm/jobs/engines/local.py", "tests/ldm/jobs/engines/test_local.py"): (
        (
            "if record is not None and record.digest == job.digest and not record.error:",
            "if False:",
        ),
        ("        self._inherit(hand)\n", "        pass\n"),
    ),
    ("ldm/jobs/engines/local.py", "tests/scripts/test_batch.py"): (
        (
            "    signal.signal(signal.SIGINT, signal.SIG_IGN)\n",
            "    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])\n",
        ),
    ),
    ("ldm/jobs/run_file.py", "tests/scripts/test_batch.py"): (
        ('if begun is not None and begun["format"] != asked:', "if False:"),
    ),
    ("ldm/programs/batch.py", "tests/scripts/test_batch.py"): (
        ('writer.append(Record(each.number, "", error=error, worker="verify"))', "pass"),
        ("return SOME_FAILED if lost or undone else 0", "return 0"),
        ("self.record_lost(plan, found, done)", "pass"),
    ),
    ("ldm/jobs/engines/ray_actor.py", "tests/ldm/jobs/engines/test_ray_data.py"): (
        ("if record is not None and record.digest == job.digest:", "if False:"),
        ("if size.left_undone:", "if False:"),
        (
            "records += [*self._worker.settle(), *self._worker.output.close()]",
            "records += [*self._worker.settle()]",
        ),
        ("while ahead:", "if ahead:"),
    ),
    ("ldm/jobs/engines/ray_data.py", "tests/ldm/jobs/engines/test_ray_data.py"): (
        ("return total is not None and came >= total, came", "return total is not None, came"),
        ("return total is not None and came >= total, came", "return came >= (total or 0), came"),
        ("if not came and not size.left_undone:", "if False:"),
    ),
    ("ldm/jobs/engines/torchrun.py", "tests/ldm/jobs/engines/test_torchrun.py"): (
        ("if turn % mine.world == mine.rank:", "if turn % mine.world <= mine.rank:"),
        ("yield from (done[number] for number in others if number in done)", "pass"),
        ("found.rank >= found.world", "found.rank > found.world"),
    ),
    ("ldm/programs/batch.py", "tests/scripts/test_batch_torchrun.py"): (
        ("if seat.rank:", "if False:"),
    ),
    ("ldm/pipelines/alike.py", "tests/ldm/pipelines/test_alike.py"): (
        ("middle = (len(pictures) + 1) // 2", "middle = 1"),
    ),
    ("ldm/pipelines/together.py", "tests/ldm/pipelines/test_together.py"): (
        ("if lacked_memory(error):", "if False:"),
        ("TextCache() if cache is None else cache", "cache or TextCache()"),
    ),
    ("ldm/pipelines/grouping.py", "tests/ldm/pipelines/test_grouping.py"): (
        ("guided = settings.scale != 1.0", "guided = True"),
    ),
    ("ldm/pipelines/joined.py", "tests/ldm/pipelines/test_joined.py"): (
        ('if k not in (SCALE, "noise")', 'if k != "noise"'),
    ),
    ("ldm/process/guidance.py", "tests/ldm/process/test_guidance.py"): (
        ("self.scale = self.scale.to(out)", "self.scale = self.scale.flip(0).to(out)"),
    ),
    ("apps/server/lanes.py", "tests/apps/server/test_lanes.py"): (
        ("self._charged[key] += row.cost", "self._charged[key] += 1.0"),
        ("max(self._charged.get(key, 0.0), self._now)", "self._charged.get(key, 0.0)"),
    ),
    ("apps/server/keys.py", "tests/apps/server/test_keys.py"): (
        ("if name is None:", "if name is None and key:"),
    ),
    ("apps/server/kept.py", "tests/apps/server/test_kept.py"): ((" or ticket.key != key", ""),),
    ("apps/server/front/values.py", "tests/apps/server/front/test_values.py"): (
        (
            "if type(value) not in (int, float) or not low <= value <= high:",
            "if type(value) not in (int, float) or value > high:",
        ),
        ("unknown = sorted(self._values.keys() - self._read)", "unknown = []"),
    ),
    ("apps/server/sdapi/walks.py", "tests/apps/server/sdapi/test_walks.py"): (
        ('return SAMPLERS[sampler].schedule or "uniform"', 'return "uniform"'),
    ),
    ("apps/server/openai_api/errors.py", "tests/apps/server/openai_api/test_routes.py"): (
        ("status = 404 if code == NO_MODEL else 400", "status = 400"),
    ),
    ("ldm/training/bad_steps.py", "tests/ldm/training/test_bad_steps.py"): (
        ("loss.detach().float() / scale", "loss.detach().float()"),
        ("p.grad = None", "p.grad.zero_()"),
    ),
    ("ldm/data/stream_places.py", "tests/ldm/data/test_stream_places.py"): (
        ("(worker + self._held[-1][0]) % self.readers", "worker"),
        ("        if self._asked:", "        if True:"),
    ),
    ("ldm/data/shards.py", "tests/ldm/data/test_stream_places.py"): (
        ("enumerate(samples, start=1), seen, None", "enumerate(samples, start=1), 0, None"),
    ),
    (
        "ldm/training/background_checkpoints.py",
        "tests/ldm/training/test_background_checkpoints.py",
    ): (("held = host_copy(checkpoint)", "held = checkpoint"),),
    # What a model says of itself; sweeps, recipes, feedback, the gallery; the course.
    ("ldm/sweeps/ranges.py", "tests/ldm/sweeps/test_ranges.py"): (
        ("steps = int((last - first) // step)", "steps = int((last - first) // step) + 1"),
        ("gap = (last - first) / max(count - 1, 1)", "gap = (last - first) / count"),
        (
            "        _check_count(len(values), text)\n    return values\n\n\ndef _spread",
            "    return values\n\n\ndef _spread",
        ),
    ),
    ("ldm/sweeps/axes.py", "tests/ldm/sweeps/test_plan.py"): (
        ("text.replace(searched, put)", "text.replace(searched, put, 1)"),
        ("if not any(searched in text", "if False and not any(searched in text"),
        ('("n_iter", "n_samples", "n_rows", "seed_mode"', '("n_iter", "n_rows", "seed_mode"'),
    ),
    ("ldm/sweeps/plan.py", "tests/ldm/sweeps/test_plan.py"): (
        ("in product(blocks, rows, columns):", "in product(columns, rows, blocks):"),
        ("if count > MOST_CELLS:", "if count < 0:"),
        ("            settings.validate()", "            pass"),
    ),
    ("ldm/sweeps/sheet.py", "tests/ldm/sweeps/test_sheet.py"): (
        ("self._row = max(self.height, *", "self._row = min(self.height, *"),
        ("top + (self._row - height) // 2", "top"),
        ("return min(1.0, (most", "return max(1.0, (most"),
    ),
    ("ldm/images/comfyui.py", "tests/ldm/images/test_recipes.py"): (
        ("if key in saved} or found", "if key} or found"),
        ("is not node for key in self._behind(links)", "is None for key in self._behind(links)"),
        ('sided = ("positive", "negative")[link[1] == 1]', 'sided = "positive"'),
        ("if len(found) > RECIPE_DEPTH:", "if False:"),
        ('and value.get("on"):', "and True:"),
    ),
    ("ldm/images/recipe_loras.py", "tests/ldm/images/test_recipes.py"): (
        ("TypeError, ValueError, OverflowError", "TypeError, ValueError"),
        ("if _NAME.fullmatch(stem) else None", ""),
    ),
    ("ldm/pipelines/recipes.py", "tests/ldm/pipelines/test_recipes.py"): (
        ('_FILES | {"seed"}', "_FILES"),
        (
            "read_picture(name, schema, given | _ADAPTERS, found)",
            "read_picture(name, schema, given, found)",
        ),
        ("name, found = Path(picture).name, ", "name, found = str(picture), "),
        ("place.index > 0 and", "place.index < 0 and"),
    ),
    ("ldm/feedback/store.py", "tests/ldm/feedback/test_feedback.py"): (
        ("        self.check([path])", "        pass"),
        ("thumb=thumb if thumb is not None else before.thumb if before else 0", "thumb=thumb or 0"),
        ('file.execute("BEGIN IMMEDIATE")', 'file.execute("BEGIN")'),
        ("if version > _VERSION:", "if False:"),
        ('file.execute("PRAGMA journal_mode=WAL")', "pass"),
    ),
    ("ldm/feedback/export.py", "tests/ldm/feedback/test_feedback.py"): (
        (
            "if sum(each.verdict(min_stars) for each in given) > 0",
            "if any(each.verdict(min_stars) > 0 for each in given)",
        ),
        ("file_hash(opinion.path) == opinion.hash", "True"),
        ("if exists(folder) and (", "if False and ("),
        ("without_loras(opinion.prompt)", "opinion.prompt"),
    ),
    ("ldm/gallery/index.py", "tests/ldm/gallery/test_gallery.py"): (
        ("inside = real_path(path).is_relative_to(real_path(folder))", "inside = True"),
        ('any(part.startswith(".") for part in parts)', "False"),
        ("key = path, time", "key = path, 0.0"),
        ("found.append((not minus,", "found.append((True,"),
    ),
    ("ldm/gallery/bin.py", "tests/ldm/gallery/test_gallery.py"): (
        ("    if os.path.lexists(place):\n        raise taken\n", ""),
        ("if not self._is_own(folder / BIN, folder):", "if False:"),
        ("found.path.parent, self._bin_of(found)", "found.path, self._bin_of(found)"),
    ),
    ("ldm/tables.py", "tests/ldm/feedback/test_feedback.py"): (
        ("if shown.startswith(_FORMULA) else shown", "if False else shown"),
    ),
    ("ldm/sweeps/drawing.py", "tests/scripts/test_sweep.py"): (
        (
            "asked.append(Asked(cell, prepare(settings, own, image=image)))",
            "asked.append(Asked(cell, prepare(sweep.cells[0].settings, own, image=image)))",
        ),
        ("yield part[index].cell, [picture]", "yield part[0].cell, [picture]"),
    ),
    (
        "ldm/models/diffusion/forward_process.py",
        "tests/ldm/models/diffusion/test_teaching_names.py",
    ): (("(times >= self.num_timesteps)", "(times > self.num_timesteps)"),),
    (
        "ldm/models/diffusion/pixel_diffusion.py",
        "tests/ldm/models/diffusion/test_teaching_names.py",
    ): (("make_guider(scale, uncond)", "make_guider(1.0, uncond)"),),
    (
        "ldm/models/diffusion/latent_diffusion.py",
        "tests/ldm/models/diffusion/test_teaching_names.py",
    ): (
        ("mode = code.mode() if isinstance", "mode = code.sample() if isinstance"),
        ("return self.get_first_stage_encoding(mode)", "return mode"),
    ),
    ("notebooks/course_helpers.py", "tests/notebooks/test_course_helpers.py"): (
        ("taken - 1", "taken"),
        ("timestep_spacing=SPACING, ", ""),
    ),
    ("ldm/settings/suiting.py", "tests/ldm/settings/test_suiting.py"): (
        ('if {"sampler", "spacing", "ddim_eta"} & kept:', "if False:"),
        ("if settings.starts_from_picture:", "if False:"),
    ),
    ("ldm/pipelines/request.py", "tests/ldm/pipelines/test_request.py"): (
        (
            "choice = replace(choose_model(schema(**values)), sampling={})",
            "choice = choose_model(schema(**values))",
        ),
    ),
    ("ldm/pipelines/known_words.py", "tests/ldm/pipelines/test_known_words.py"): (
        ("counts = range(min(longest, len(words) - at), 0, -1)", "counts = range(1, 2)"),
        ("not (plan and plan.controls)", "True"),
    ),
    # The studio, larger pictures, faces, masks, repainting.
    ("ldm/pipelines/cancelling.py", "tests/ldm/pipelines/test_cancelling.py"): (
        ("        if self._event.is_set():", "        if False:"),
        ("            hook.remove()", "            pass"),
        ("        if len(before) > 2:", "        if len(before) > 9:"),
        ("slice(row, row + 1), slice(head, head + 1)", "slice(row, row + 1), slice(0, 1)"),
    ),
    ("ldm/pipelines/previewing.py", "tests/ldm/pipelines/test_previewing.py"): (
        ("if now - self._shown < self._every:", "if False:"),
        ('mode="edge")', 'mode="constant")'),
    ),
    ("ldm/pipelines/only_masked.py", "tests/ldm/pipelines/test_only_masked.py"): (
        ("np.pad(marked, sides, constant_values=True)", "np.pad(marked, sides)"),
        (
            "laid.paste(part, (left, top), self.soft.crop(self.area))",
            "laid.paste(part, (left, top))",
        ),
        ("mask = replace(mask, marked=~mask.marked)", "mask = mask"),
        ("np.asarray(ImageChops.lighter(self.alpha, self.soft))", "np.asarray(self.alpha)"),
    ),
    ("ldm/pipelines/room.py", "tests/ldm/pipelines/test_room.py"): (
        ("if free is not None and each > MARGIN * free:", "if False:"),
        ("rows = min(wanted, fitting, quick)", "rows = wanted"),
    ),
    ("ldm/pipelines/run.py", "tests/ldm/pipelines/test_room.py"): (
        ("                restore()", "                pass"),
    ),
    ("ldm/rng.py", "tests/ldm/pipelines/test_room.py"): (
        ("return drawn[self.first : self.first + shape[0]]", "return drawn[: shape[0]]"),
    ),
    ("ldm/pipelines/initial_latents.py", "tests/ldm/pipelines/test_room.py"): (
        ("return slice(first, first + rows)", "return slice(0, rows)"),
    ),
    ("ldm/faces/placing.py", "tests/ldm/faces/test_placing.py"): (
        ("from_mean.conj() @", "from_mean @"),
    ),
    ("ldm/faces/aligned.py", "tests/ldm/faces/test_aligned.py"): (
        ("if scale < 1.0:", "if scale > 9.0:"),
        ("result = pixels.copy()", "result = pixels"),
    ),
    ("ldm/faces/eyes.py", "tests/ldm/faces/test_eyes.py"): (
        ("return found if _plausible(found, usual) else usual", "return found"),
        ("* dark).argmax()", ").argmax()"),
    ),
    ("ldm/faces/detecting.py", "tests/ldm/faces/test_detecting.py"): (
        ("if not np.isfinite(row).all():", "if False:"),
        ("_VOTES = 26", "_VOTES = 3"),
        ("_enlarged(face, 1 / scale)", "face"),
    ),
    ("ldm/faces/restorer.py", "tests/ldm/faces/test_restorer.py"): (
        ("made = torch.lerp(made, x, weight)", "pass"),
        ("torch.manual_seed(_SEED)", "pass"),
    ),
    ("ldm/faces/restoring.py", "tests/ldm/faces/test_restoring.py"): (
        ("pixels = put_back(pixels, redrawn, placement)", "put_back(pixels, redrawn, placement)"),
    ),
    ("ldm/masking/subject.py", "tests/ldm/masking/test_making.py"): (
        ('name in ("auto", "cuda")', 'name in ("auto", "cuda", "cpu")'),
        ("if made.min() < 0.0 or made.max() > 1.0:", "if False:"),
        ('if "isnet" in', 'if "snet" not in'),
    ),
    ("ldm/masking/colour.py", "tests/ldm/masking/test_making.py"): (
        ("distance <= tolerance", "distance <= 2 * tolerance"),
    ),
    ("ldm/masking/grabcut.py", "tests/ldm/masking/test_making.py"): (
        ("if not inside or min(sides)", "if min(sides)"),
        ("cv2.GC_INIT_WITH_RECT", "cv2.GC_EVAL"),
    ),
    ("ldm/masking/words.py", "tests/ldm/masking/test_words.py"): (
        ("sure.amax((0, 1))", "sure[0, 0]"),
    ),
    ("ldm/pipelines/postprocess.py", "tests/ldm/pipelines/test_facing.py"): (
        ("drawn = self.faces.redrawn(", "self.faces.redrawn("),
    ),
    ("ldm/pipelines/facing.py", "tests/ldm/pipelines/test_facing.py"): (
        ("pixels, seen = pixels.copy(), seen.copy()", "return pixels, seen"),
    ),
    ("ldm/pipelines/source_files.py", "tests/ldm/pipelines/test_facing.py"): (
        ("if path.is_relative_to(ROOT)", "if False"),
        ("if (source, recorded) == (DETECTOR, CASCADE):", "if False:"),
    ),
    ("ldm/programs/restoring.py", "tests/scripts/test_restore_faces.py"): (
        ("pixels = np.concatenate([pixels, alpha], axis=-1)", "pass"),
    ),
    ("ldm/programs/masking.py", "tests/scripts/test_mask.py"): (
        ("            _check_same(place, pixels)", "            pass"),
        ("silent = settings.out == PATH_ONLY", "silent = False"),
    ),
    ("apps/studio/adapters.py", "tests/apps/studio/test_adapters.py"): (
        ("if word.lower() not in text.lower():", "if True:"),
    ),
    ("apps/studio/checkpoints.py", "tests/apps/studio/test_checkpoints.py"): (
        ("stem if stems.count(stem) == 1 else _longer(path)", "stem"),
        ("if each.name == name)", "if each.name == name or str(each.path) == name)"),
    ),
    ("apps/studio/dropped.py", "tests/apps/studio/test_dropped.py"): (
        ("if fields is not None and name not in fields:", "if False:"),
    ),
    ("apps/studio/album.py", "tests/apps/studio/test_album.py"): (
        ("if not shown and count:", "if False:"),
        ("    limits.check(request.settings)\n", ""),
    ),
    ("apps/studio/opinions.py", "tests/apps/studio/test_opinions.py"): (
        ("path = self.gallery.inside(picture)", "path = Path(picture)"),
        ("return Path(path).relative_to(folder).as_posix()", "return path"),
    ),
    ("ldm/gallery/index.py", "tests/apps/studio/test_opinions.py"): (
        ("hidden = hidden or parts[:1]", "hidden = hidden or parts[:0]"),
    ),
    ("apps/studio/sweeping.py", "tests/apps/studio/test_sweeping.py"): (
        ("if axis is not None and axis.name not in offered:", "if False:"),
        ("if len(sweep.cells) > MOST:", "if False:"),
        ("if self.saved:", "if False:"),
    ),
    ("apps/studio/sweeping.py", "tests/apps/studio/test_sweep_tab.py"): (
        ("is not desk.pipeline.choice", "is None"),
    ),
    ("ldm/sweeps/results.py", "tests/apps/studio/test_sweeping.py"): (
        ("key=lambda each: each[0][::-1]", "key=lambda each: each[0]"),
    ),
    ("apps/studio/loading.py", "tests/apps/studio/test_loading.py"): (
        ("        release(queue.pipeline)\n", ""),
        ("queue.pipeline = self.load(before, log_events)", "pass"),
    ),
    ("apps/studio/filling.py", "tests/apps/studio/test_filling.py"): (
        ("if tab == name and setting in found.values", "if setting in found.values"),
        ("return value if value in offered else gr.skip()", "return value"),
    ),
    ("apps/studio/tabs/sweep.py", "tests/apps/studio/test_sweep_tab.py"): (
        ("if sheet.parent != outdir / FOLDER or not is_file(path):", "if not is_file(path):"),
    ),
    ("apps/studio/shown_lessons.py", "tests/apps/studio/test_lessons.py"): (
        ("(count - 1) / (most - 1)", "count / most"),
    ),
    ("apps/studio/rating.py", "tests/apps/studio/test_rating.py"): (
        (".strip()[:LONGEST_NAME]", ""),
    ),
    ("ldm/upscalers/tiles.py", "tests/ldm/upscalers/test_tiles.py"): (
        ("DROPPED = 3 / 8", "DROPPED = 0.0"),
        ("last = round_up(last, self.multiple)", "last = last"),
    ),
    ("ldm/upscalers/network.py", "tests/ldm/upscalers/test_network.py"): (
        (", torch.random.fork_rng(devices=[])", ""),
        ("    return averages\n", "    return own\n"),
    ),
    ("ldm/upscalers/enlarge.py", "tests/ldm/upscalers/test_enlarge.py"): (
        ('_spread(image.convert("RGBA"))', 'image.convert("RGB")'),
    ),
    ("ldm/pipelines/hires.py", "tests/ldm/pipelines/test_hires.py"): (
        (
            "steps = self.settings.hires_steps or self.settings.ddim_steps",
            "steps = self.settings.ddim_steps",
        ),
    ),
    ("apps/studio/door.py", "tests/apps/studio/test_door.py"): (
        ("return hmac.compare_digest(given, self.auth.encode())", "return True"),
    ),
    ("optimizedSD/web/handlers.py", "tests/optimizedSD/web/test_handlers.py"): (
        (
            "pictures = bool(state.pictures) and len(state.pictures) != shown",
            "pictures = len(state.pictures) != shown",
        ),
    ),
    ("optimizedSD/web/drawing.py", "tests/optimizedSD/web/test_drawing.py"): (
        ("    check_room(request, pipeline, seconds=seconds)\n", ""),
    ),
    ("ldm/digests.py", "tests/ldm/test_digests.py"): (
        ("if identity(path) == state and", "if True and"),
        ("entry[:-1] == list(state)", "True"),
    ),
    ("ldm/keeping.py", "tests/ldm/test_keeping.py"): (
        ("return table if isinstance(table, dict) else {}", "return table"),
    ),
}
