"""The names that CompVis's files have, and the parameters that its functions and classes take.

Facts read off stable-diffusion's ``ldm``. Of imported names those are here that forks import from
there, too.
A name without parentheses is a class without a constructor of its own, or something imported. A
constructor's parameters stand without ``self``; ``*`` and ``**`` are as in a signature.
"""

from __future__ import annotations

import re

SURFACE = {
    "ldm.lr_scheduler": """
        LambdaLinearScheduler LambdaWarmUpCosineScheduler(warm_up_steps, lr_min, lr_max,
        lr_start, max_decay_steps, verbosity_interval)
        LambdaWarmUpCosineScheduler2(warm_up_steps, f_min, f_max, f_start, cycle_lengths,
        verbosity_interval)
    """,
    "ldm.models.autoencoder": """
        AutoencoderKL(ddconfig, lossconfig, embed_dim, ckpt_path, ignore_keys, image_key,
        colorize_nlabels, monitor) Decoder DiagonalGaussianDistribution Encoder
        IdentityFirstStage(*args, vq_interface, **kwargs) VQModel(ddconfig, lossconfig, n_embed,
        embed_dim, ckpt_path, ignore_keys, image_key, colorize_nlabels, monitor,
        batch_resize_range, scheduler_config, lr_g_factor, remap, sane_index_shape, use_ema)
        VQModelInterface(embed_dim, *args, **kwargs) VectorQuantizer contextmanager
        instantiate_from_config
    """,
    "ldm.models.diffusion.classifier": """
        EncoderUNetModel NoisyLatentImageClassifier(diffusion_path, num_classes, ckpt_path,
        pool, label_key, diffusion_ckpt_path, scheduler_config, weight_decay, log_steps,
        monitor, *args, **kwargs) UNetModel __models__ default disabled_train(self, mode)
        instantiate_from_config ismap log_txt_as_img rearrange
    """,
    "ldm.models.diffusion.ddim": """
        DDIMSampler(model, schedule, **kwargs) extract_into_tensor make_ddim_sampling_parameters
        make_ddim_timesteps noise_like
    """,
    "ldm.models.diffusion.ddpm": """
        AutoencoderKL DDIMSampler DDPM(unet_config, timesteps, beta_schedule, loss_type,
        ckpt_path, ignore_keys, load_only_unet, monitor, use_ema, first_stage_key, image_size,
        channels, log_every_t, clip_denoised, linear_start, linear_end, cosine_s, given_betas,
        original_elbo_weight, v_posterior, l_simple_weight, conditioning_key, parameterization,
        scheduler_config, use_positional_encodings, learn_logvar, logvar_init)
        DiagonalGaussianDistribution DiffusionWrapper(diff_model_config, conditioning_key)
        IdentityFirstStage LatentDiffusion(first_stage_config, cond_stage_config,
        num_timesteps_cond, cond_stage_key, cond_stage_trainable, concat_mode,
        cond_stage_forward, conditioning_key, scale_factor, scale_by_std, *args, **kwargs)
        Layout2ImgDiffusion(cond_stage_key, *args, **kwargs) LitEma VQModelInterface
        __conditioning_keys__ contextmanager count_params default disabled_train(self, mode)
        exists extract_into_tensor instantiate_from_config isimage ismap log_txt_as_img
        make_beta_schedule make_grid mean_flat noise_like normal_kl rank_zero_only rearrange
        repeat uniform_on_device(r1, r2, shape, device)
    """,
    "ldm.models.diffusion.dpm_solver.dpm_solver": """
        DPM_Solver(model_fn, noise_schedule, predict_x0, thresholding, max_val)
        NoiseScheduleVP(schedule, betas, alphas_cumprod, continuous_beta_0, continuous_beta_1)
        expand_dims(v, dims) interpolate_fn(x, xp, yp) model_wrapper(model, noise_schedule,
        model_type, model_kwargs, guidance_type, condition, unconditional_condition,
        guidance_scale, classifier_fn, classifier_kwargs)
    """,
    "ldm.models.diffusion.dpm_solver.sampler": """
        DPMSolverSampler(model, **kwargs)
    """,
    "ldm.models.diffusion.plms": """
        PLMSSampler(model, schedule, **kwargs) make_ddim_sampling_parameters make_ddim_timesteps
        noise_like
    """,
    "ldm.modules.attention": """
        BasicTransformerBlock(dim, n_heads, d_head, dropout, context_dim, gated_ff, checkpoint)
        CrossAttention(query_dim, context_dim, heads, dim_head, dropout) FeedForward(dim,
        dim_out, mult, glu, dropout) GEGLU(dim_in, dim_out) LinearAttention(dim, heads,
        dim_head) Normalize(in_channels) SpatialSelfAttention(in_channels)
        SpatialTransformer(in_channels, n_heads, d_head, depth, dropout, context_dim) checkpoint
        default(val, d) einsum exists(val) init_(tensor) isfunction max_neg_value(t) rearrange
        repeat uniq(arr) zero_module(module)
    """,
    "ldm.modules.diffusionmodules.model": """
        AttnBlock(in_channels) Decoder(*, ch, out_ch, ch_mult, num_res_blocks, attn_resolutions,
        dropout, resamp_with_conv, in_channels, resolution, z_channels, give_pre_end, tanh_out,
        use_linear_attn, attn_type, **ignorekwargs) Downsample(in_channels, with_conv)
        Encoder(*, ch, out_ch, ch_mult, num_res_blocks, attn_resolutions, dropout,
        resamp_with_conv, in_channels, resolution, z_channels, double_z, use_linear_attn,
        attn_type, **ignore_kwargs) FirstStagePostProcessor(ch_mult, in_channels,
        pretrained_model, reshape, n_channels, dropout, pretrained_config)
        LatentRescaler(factor, in_channels, mid_channels, out_channels, depth)
        LinAttnBlock(in_channels) LinearAttention MergedRescaleDecoder(z_channels, out_ch,
        resolution, num_res_blocks, attn_resolutions, ch, ch_mult, dropout, resamp_with_conv,
        rescale_factor, rescale_module_depth) MergedRescaleEncoder(in_channels, ch, resolution,
        out_ch, num_res_blocks, attn_resolutions, dropout, resamp_with_conv, ch_mult,
        rescale_factor, rescale_module_depth) Model(*, ch, out_ch, ch_mult, num_res_blocks,
        attn_resolutions, dropout, resamp_with_conv, in_channels, resolution, use_timestep,
        use_linear_attn, attn_type) Normalize(in_channels, num_groups) Resize(in_channels,
        learned, mode) ResnetBlock(*, in_channels, out_channels, conv_shortcut, dropout,
        temb_channels) SimpleDecoder(in_channels, out_channels, *args, **kwargs)
        Upsample(in_channels, with_conv) UpsampleDecoder(in_channels, out_channels, ch,
        num_res_blocks, resolution, ch_mult, dropout) Upsampler(in_size, out_size, in_channels,
        out_channels, ch_mult) get_timestep_embedding(timesteps, embedding_dim)
        instantiate_from_config make_attn(in_channels, attn_type) nonlinearity(x) rearrange
    """,
    "ldm.modules.diffusionmodules.openaimodel": """
        AttentionBlock(channels, num_heads, num_head_channels, use_checkpoint,
        use_new_attention_order) AttentionPool2d(spacial_dim, embed_dim, num_heads_channels,
        output_dim) Downsample(channels, use_conv, dims, out_channels, padding)
        EncoderUNetModel(image_size, in_channels, model_channels, out_channels, num_res_blocks,
        attention_resolutions, dropout, channel_mult, conv_resample, dims, use_checkpoint,
        use_fp16, num_heads, num_head_channels, num_heads_upsample, use_scale_shift_norm,
        resblock_updown, use_new_attention_order, pool, *args, **kwargs) QKVAttention(n_heads)
        QKVAttentionLegacy(n_heads) ResBlock(channels, emb_channels, dropout, out_channels,
        use_conv, use_scale_shift_norm, dims, use_checkpoint, up, down) SpatialTransformer
        TimestepBlock TimestepEmbedSequential TransposedUpsample(channels, out_channels, ks)
        UNetModel(image_size, in_channels, model_channels, out_channels, num_res_blocks,
        attention_resolutions, dropout, channel_mult, conv_resample, dims, num_classes,
        use_checkpoint, use_fp16, num_heads, num_head_channels, num_heads_upsample,
        use_scale_shift_norm, resblock_updown, use_new_attention_order, use_spatial_transformer,
        transformer_depth, context_dim, n_embed, legacy) Upsample(channels, use_conv, dims,
        out_channels, padding) abstractmethod avg_pool_nd checkpoint conv_nd
        convert_module_to_f16(x) convert_module_to_f32(x) count_flops_attn(model, _x, y) linear
        normalization timestep_embedding zero_module
    """,
    "ldm.modules.diffusionmodules.util": """
        CheckpointFunction GroupNorm32 HybridConditioner(c_concat_config, c_crossattn_config)
        SiLU avg_pool_nd(dims, *args, **kwargs) betas_for_alpha_bar(num_diffusion_timesteps,
        alpha_bar, max_beta) checkpoint(func, inputs, params, flag) conv_nd(dims, *args,
        **kwargs) extract_into_tensor(a, t, x_shape) instantiate_from_config linear(*args,
        **kwargs) make_beta_schedule(schedule, n_timestep, linear_start, linear_end, cosine_s)
        make_ddim_sampling_parameters(alphacums, ddim_timesteps, eta, verbose)
        make_ddim_timesteps(ddim_discr_method, num_ddim_timesteps, num_ddpm_timesteps, verbose)
        mean_flat(tensor) noise_like(shape, device, repeat) normalization(channels) repeat
        scale_module(module, scale) timestep_embedding(timesteps, dim, max_period, repeat_only)
        zero_module(module)
    """,
    "ldm.modules.distributions.distributions": """
        AbstractDistribution DiagonalGaussianDistribution(parameters, deterministic)
        DiracDistribution(value) normal_kl(mean1, logvar1, mean2, logvar2)
    """,
    "ldm.modules.ema": """
        LitEma(model, decay, use_num_upates)
    """,
    "ldm.modules.encoders.modules": """
        AbstractEncoder() BERTEmbedder(n_embed, n_layer, vocab_size, max_seq_len, device,
        use_tokenizer, embedding_dropout) BERTTokenizer(device, vq_interface, max_length)
        ClassEmbedder(embed_dim, n_classes, key) Encoder FrozenCLIPEmbedder(version, device,
        max_length) FrozenCLIPTextEmbedder(version, device, max_length, n_repeat, normalize)
        FrozenClipImageEmbedder(model, jit, device, antialias) SpatialRescaler(n_stages, method,
        multiplier, in_channels, out_channels, bias) TransformerEmbedder(n_embed, n_layer,
        vocab_size, max_seq_len, device) TransformerWrapper rearrange repeat
    """,
    "ldm.modules.losses.contperceptual": """
        DummyLoss LPIPS LPIPSWithDiscriminator(disc_start, logvar_init, kl_weight,
        pixelloss_weight, disc_num_layers, disc_in_channels, disc_factor, disc_weight,
        perceptual_weight, use_actnorm, disc_conditional, disc_loss) NLayerDiscriminator
        adopt_weight hinge_d_loss vanilla_d_loss weights_init
    """,
    "ldm.modules.losses.vqperceptual": """
        LPIPS NLayerDiscriminator VQLPIPSWithDiscriminator(disc_start, codebook_weight,
        pixelloss_weight, disc_num_layers, disc_in_channels, disc_factor, disc_weight,
        perceptual_weight, use_actnorm, disc_conditional, disc_ndf, disc_loss, n_classes,
        perceptual_loss, pixel_loss) adopt_weight(weight, global_step, threshold, value)
        hinge_d_loss hinge_d_loss_with_exemplar_weights(logits_real, logits_fake, weights) l1(x,
        y) l2(x, y) measure_perplexity(predicted_indices, n_embed) repeat vanilla_d_loss
        weights_init
    """,
    "ldm.modules.x_transformer": """
        AbsolutePositionalEmbedding(dim, max_seq_len) Attention(dim, dim_head, heads, causal,
        mask, talking_heads, sparse_topk, use_entmax15, num_mem_kv, dropout, on_attn)
        AttentionLayers(dim, depth, heads, causal, cross_attend, only_cross, use_scalenorm,
        use_rmsnorm, use_rezero, rel_pos_num_buckets, rel_pos_max_distance,
        position_infused_attn, custom_layers, sandwich_coef, par_ratio, residual_attn,
        cross_residual_attn, macaron, pre_norm, gate_residual, **kwargs) DEFAULT_DIM_HEAD
        Encoder(**kwargs) FeedForward(dim, dim_out, mult, glu, dropout)
        FixedPositionalEmbedding(dim) GEGLU(dim_in, dim_out) GRUGating(dim) Intermediates
        LayerIntermediates RMSNorm(dim, eps) Residual Rezero(fn) Scale(value, fn) ScaleNorm(dim,
        eps) TransformerWrapper(*, num_tokens, max_seq_len, attn_layers, emb_dim, max_mem_len,
        emb_dropout, num_memory_tokens, tie_embedding, use_pos_emb) always(val) default(val, d)
        einsum equals(val) exists(val) group_by_key_prefix(prefix, d) group_dict_by_key(cond, d)
        groupby_prefix_and_trim(prefix, d) isfunction max_neg_value(tensor) namedtuple
        not_equals(val) pick_and_pop(keys, d) rearrange reduce repeat string_begins_with(prefix,
        str)
    """,
    "ldm.util": """
        _do_parallel_data_prefetch(func, Q, data, idx, idx_to_fn) count_params(model, verbose)
        default(val, d) exists(x) get_obj_from_str(string, reload)
        instantiate_from_config(config) isfunction isimage(x) ismap(x) log_txt_as_img(wh, xc,
        size) mean_flat(tensor) parallel_data_prefetch(func, data, n_proc, target_data_type,
        cpu_intensive, use_worker_id) rearrange
    """,
}


def names_of(module: str) -> dict[str, list[str] | None]:
    """Return the names of a module, and the parameters of those that are said with them."""
    found = re.findall(r"(\w+)(?:\(([^)]*)\))?", SURFACE[module])
    called = set(re.findall(r"(\w+)\(", SURFACE[module]))
    return {
        name: [p for p in re.split(r",\s*", parameters) if p] if name in called else None
        for name, parameters in found
    }
